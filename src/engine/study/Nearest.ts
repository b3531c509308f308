/** What the writer of an unknown name may have meant: the part of an error message that says what would be right. */

/** Edits (insert, delete, replace, swap of neighbours) that turn one word into the other. */
const distance = (a: string, b: string): number => {
  let before: Array<number> = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2]! + 1)
      row.push(best)
    }
    before = last
    last = row
  }
  return last[b.length]!
}

/** The known names within a third of the name's length, at least one edit, nearest first; at most three. */
export const nearest = (name: string, known: Iterable<string>): ReadonlyArray<string> =>
  [...known]
    .map((word) => ({ word, edits: distance(name.toLowerCase(), word.toLowerCase()) }))
    .filter(({ word, edits }) => edits <= Math.max(1, Math.floor(Math.max(name.length, word.length) / 3)))
    .toSorted((a, b) => a.edits - b.edits)
    .slice(0, 3)
    .map(({ word }) => word)

const LISTED = 20

/** `did you mean 'bits'? known: bits, group`, or the list alone where nothing is near. */
export const suggest = (name: string, known: Iterable<string>): string => {
  const names = [...known]
  if (names.length === 0) return "there are none"
  const near = nearest(name, names).map((word) => `'${word}'`)
  const rest = names.length > LISTED ? `, and ${names.length - LISTED} more` : ""
  const list = `known: ${names.slice(0, LISTED).join(", ")}${rest}`
  return near.length === 0 ? list : `did you mean ${near.join(" or ")}? ${list}`
}
