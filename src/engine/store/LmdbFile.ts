/**
 * What must be true of an LMDB file before LMDB may see it: it trusts its header and maps the file into memory, so that
 * a foreign or a cut file ends the process instead of failing.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs"

// Offsets in a meta page of LMDB's data version 2 (64 bit): page header, magic, version, address, map size, two trees.
const meta = {
  magic: 24,
  version: 28,
  pageSize: 48,
  freeRoot: 88,
  mainRoot: 136,
  lastPage: 144,
  transaction: 152,
  end: 160,
}
const magic = 0xbeefc0de
const dataVersion = 2
const none = 0xffff_ffff_ffff_ffffn
/** Bytes. The last pages may be missing from a sound file when they are free; a cut file misses more. */
const slack = 1n << 20n

/** What is wrong with the file, or `undefined` when it is sound, empty or not there. */
export const damage = (path: string): string | undefined => {
  let file: number
  try {
    file = openSync(path, "r")
  } catch {
    return undefined
  }
  try {
    if (fstatSync(file).size === 0) return undefined
    const page = Buffer.alloc(meta.end)
    const read = (at: number) =>
      readSync(file, page, 0, meta.end, at) === meta.end && page.readUInt32LE(meta.magic) === magic
    if (!read(0)) return "does not begin as an LMDB file does"
    const version = page.readUInt32LE(meta.version) & 0xffff
    if (version !== dataVersion) return `has LMDB data version ${version}, not ${dataVersion}`
    const pageSize = page.readUInt32LE(meta.pageSize)
    let newest = Buffer.from(page)
    if (!read(pageSize)) return "has lost its second header"
    if (page.readBigUInt64LE(meta.transaction) > newest.readBigUInt64LE(meta.transaction)) newest = page
    // Asked after the header: others commit meanwhile, and the file may outgrow what its header says, never the reverse.
    const size = fstatSync(file).size
    const pages = [newest.readBigUInt64LE(meta.freeRoot), newest.readBigUInt64LE(meta.mainRoot)]
    const needed = pages.filter((root) => root !== none).map((root) => (root + 1n) * BigInt(pageSize))
    needed.push((newest.readBigUInt64LE(meta.lastPage) + 1n) * BigInt(pageSize) - slack)
    return needed.some((bytes) => bytes > BigInt(size)) ? "has been cut short" : undefined
  } finally {
    closeSync(file)
  }
}
