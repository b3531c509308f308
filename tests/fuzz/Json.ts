/** Harm to JSON that leaves it JSON, mostly: numbers made extreme, keys repeated or renamed, subtrees moved, deep nesting. */
import type { Chance } from "./Chance.ts"

/** Written as it stands, so that it can hold what `JSON.stringify` would not write: a key twice, a number of 400 digits. */
export interface Node {
  raw?: string | undefined
  keys?: Array<string> | undefined
  items?: Array<Node> | undefined
}

export const from = (value: unknown): Node => {
  if (Array.isArray(value)) return { items: value.map(from) }
  if (typeof value !== "object" || value === null) return { raw: JSON.stringify(value) }
  return { keys: Object.keys(value), items: Object.values(value).map(from) }
}

export const text = ({ items, keys, raw }: Node): string => {
  if (items === undefined) return raw!
  if (keys === undefined) return `[${items.map(text).join(",")}]`
  return `{${items.map((item, i) => `${JSON.stringify(keys[i])}:${text(item)}`).join(",")}}`
}

const nested = (depth: number, open: string, close: string) => open.repeat(depth) + "1" + close.repeat(depth)
const DEPTHS = [3, 60, 200, 2000, 20_000, 200_000]

const NUMBERS =
  "0 -0 -1 1 2 3 7 8 0.5 1.5 64 255 65536 2147483647 2147483648 1073741824 4294967296 1000000000 9007199254740991 9007199254740992 -9007199254740992 1e308 -1e308 1e400 1e-320 4e9 1e21 123456789012345678901234567890".split(
    " ",
  )
const TEXTS = [
  "",
  " ",
  "NaN",
  "Infinity",
  "-1",
  "32",
  "null",
  "\ud800",
  "\u0000",
  "../../etc/passwd",
  "/etc/passwd",
  "..",
  "__proto__",
  "a".repeat(100_000),
  "(a+)+$",
  "(?:\\p{L}+\\s?)*!",
  "[",
  "\\",
  "{{ 9 ** 9 ** 9 }}",
]

/** A value that a reader might not expect. */
export const hostile = (chance: Chance): string => {
  switch (chance.below(8)) {
    case 0:
    case 1:
    case 2:
      return chance.pick(NUMBERS)
    case 3:
      return JSON.stringify(chance.pick(TEXTS))
    case 4:
      return chance.pick(["null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"":0}', "NaN", "Infinity", "1."])
    case 5: {
      const depth = chance.pick(DEPTHS)
      return chance.oneIn(2) ? nested(depth, "[", "]") : nested(depth, '{"a":', "}")
    }
    case 6:
      return `[${Array(chance.pick([2, 64, 1000, 50_000]))
        .fill(chance.pick(["0", '"a"', "1e308", "[]", "{}"]))
        .join(",")}]`
    default:
      return chance.pick([
        '{"__proto__":{"shape":[1],"polluted":1}}',
        '{"constructor":{"prototype":{"polluted":1}}}',
        '{"toString":1,"valueOf":2,"hasOwnProperty":3,"length":4}',
        '{"a":1,"a":2}',
        '{"type":"Sequence"}',
      ])
  }
}

const KEYS = ["__proto__", "constructor", "toString", "", "type", "\u0000", "a".repeat(70_000), "0", "length"]

/** Any node, those near the root the likelier. */
const descend = (chance: Chance, root: Node): Node => {
  let node = root
  while (node.items !== undefined && node.items.length > 0 && !chance.oneIn(4)) node = chance.pick(node.items)
  return node
}

const become = (node: Node, { items, keys, raw }: Node): void => {
  node.raw = raw
  node.keys = keys
  node.items = items
}

const once = (chance: Chance, root: Node, other: Node): void => {
  const node = descend(chance, root)
  const { items, keys } = node
  const inside = items !== undefined && items.length > 0
  const at = inside ? chance.below(items.length) : 0
  switch (chance.below(inside ? 9 : 4)) {
    case 0:
    case 1:
      return become(node, { raw: hostile(chance) })
    case 2: {
      const value = Number(node.raw)
      if (node.raw === undefined || !Number.isFinite(value)) return become(node, { raw: hostile(chance) })
      const changed = [value + 1, value - 1, value * 2, value / 2, -value, value + 0.5, value * 1000, value ** 4]
      return become(node, { raw: String(chance.pick(changed)) })
    }
    case 3:
      return become(node, structuredClone(descend(chance, other)))
    case 4:
      items!.splice(at, 1)
      keys?.splice(at, 1)
      return
    case 5:
      items!.splice(at, 0, structuredClone(items![at]!))
      keys?.splice(at, 0, keys[at]!)
      return
    case 6: {
      if (keys === undefined) return become(node, { items: items!.toReversed() })
      keys[at] = chance.oneIn(2) ? chance.pick(KEYS) : chance.pick(keys)
      return
    }
    case 7:
      items!.splice(at, 0, chance.oneIn(2) ? { raw: hostile(chance) } : structuredClone(descend(chance, other)))
      keys?.splice(at, 0, chance.oneIn(2) ? chance.pick(KEYS) : chance.pick(other.keys ?? KEYS))
      return
    default: {
      const depth = chance.pick(DEPTHS)
      return become(node, { raw: "[".repeat(depth) + text(node) + "]".repeat(depth) })
    }
  }
}

/** One to three edits; `other` is where foreign subtrees come from. */
export const harmed = (chance: Chance, sound: unknown, other: unknown): string => {
  const [root, foreign] = [from(sound), from(other)]
  for (let n = chance.below(3); n >= 0; n--) once(chance, root, foreign)
  return text(root)
}
