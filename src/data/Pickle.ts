/**
 * Pickles, read without running them: a stack machine that knows the instructions which `torch.save` writes for
 * tensors and makes nothing but plain tagged values. Any other instruction, and any global that the host does not
 * list, is refused by name.
 *
 *     pickle   PROTO version | instructions | STOP
 *
 * What a global makes of its arguments, and what a persistent id stands for, is for the host to say: `A`.
 */

export interface Tuple<A> {
  readonly kind: "tuple"
  readonly items: ReadonlyArray<Value<A>>
}
export interface List<A> {
  readonly kind: "list"
  readonly items: Array<Value<A>>
}
/** Key, value, key, value: the file's own, so a key may come twice and may be `__proto__`. */
export interface Dict<A> {
  readonly kind: "dict"
  readonly items: Array<Value<A>>
}
/** A name, and no more than that. */
export interface Global {
  readonly kind: "global"
  readonly name: string
}
/** Made by the host. */
export interface Made<A> {
  readonly kind: "made"
  readonly made: A
}
export type Value<A> =
  | null
  | boolean
  | number
  /** Beyond the integers that a number holds. */
  | bigint
  | string
  | Tuple<A>
  | List<A>
  | Dict<A>
  | Global
  | Made<A>

/** What the file may refer to. Both functions throw `Refused`. */
export interface Host<A> {
  readonly globals: ReadonlySet<string>
  readonly call: (global: string, args: ReadonlyArray<Value<A>>) => Value<A>
  readonly persistent: (id: Value<A>) => Value<A>
  /** Attributes that a dict may be given; they are dropped. */
  readonly attributes: ReadonlySet<string>
}

/** What the pickle says cannot be, or is not allowed. */
export class Refused extends Error {}

/** The bytes of a pickle, from front to back. */
export interface Source {
  /** Of the next byte, in the file. */
  readonly at: () => number
  readonly left: () => number
  readonly byte: () => number
  /** The next bytes, at most `LONGEST`; they hold until the next call. Throws `Refused` where fewer are left. */
  readonly take: (length: number) => Uint8Array
}

/** Bytes of a string: a tensor's name at most. */
const LONGEST = 1 << 16
const WINDOW = 1 << 17
/** Values on the stack. Python's pickler writes dicts and lists in batches of a thousand. */
const DEEPEST = 100_000
/** Lists, dicts, tuples and the host's own, and remembered values: a tensor takes about ten. */
const MOST = 1 << 21
/** Bytes of a pickle; a tensor takes about 200. */
export const LARGEST = 1 << 25

/** Bytes [begin, end) of a file. @param read fills `into` from a position in the file, or throws */
export const source = (
  read: (into: Uint8Array, position: number) => void,
  begin: number,
  end: number,
  ends = "it ends inside an instruction",
): Source => {
  let window = new Uint8Array(0)
  let next = 0
  let at = begin
  const left = () => end - at
  /** Where in the window the next bytes begin, all of them there. */
  const reserve = (length: number) => {
    if (length > left()) throw new Refused(ends)
    if (next + length > window.length) {
      window = new Uint8Array(Math.min(WINDOW, left()))
      read(window, at)
      next = 0
    }
    at += length
    next += length
    return next - length
  }
  return {
    at: () => at,
    left,
    byte: () => {
      const first = reserve(1)
      return window[first]!
    },
    take: (length) => {
      const first = reserve(length)
      return window.subarray(first, first + length)
    },
  }
}

/** Text of a file for a sentence: cut short, and nothing in it that a terminal would obey. */
export const printable = (text: string): string =>
  JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text).slice(1, -1)

/** For sentences: short, on one line, whatever the value. */
export const shown = (value: Value<unknown>): string => {
  if (value === null) return "None"
  if (typeof value === "string") return `"${printable(value)}"`
  if (typeof value === "bigint") return value < 0n ? "an integer below -2^53" : "an integer above 2^53"
  if (typeof value !== "object") return String(value)
  if (value.kind === "global") return value.name
  if (value.kind === "made") return "a tensor or its storage"
  if (value.kind !== "tuple") return `a ${value.kind}`
  const plain = value.items.slice(0, 9).map((item) => (item !== null && typeof item === "object" ? "…" : shown(item)))
  return `(${plain.join(", ")}${value.items.length > 9 ? ", …" : ""})`
}

const PROTO = 0x80
const STOP = 0x2e
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Instructions that are refused, by their names in Python's pickletools. */
const OTHERS: ReadonlyMap<number, string> = new Map(
  Object.entries({
    INT: "I",
    LONG: "L",
    LONG4: "\x8b",
    FLOAT: "F",
    STRING: "S",
    BINSTRING: "T",
    SHORT_BINSTRING: "U",
    UNICODE: "V",
    BINBYTES: "B",
    SHORT_BINBYTES: "C",
    BINBYTES8: "\x8e",
    BYTEARRAY8: "\x96",
    NEXT_BUFFER: "\x97",
    READONLY_BUFFER: "\x98",
    EMPTY_SET: "\x8f",
    ADDITEMS: "\x90",
    FROZENSET: "\x91",
    LIST: "l",
    DICT: "d",
    POP: "0",
    POP_MARK: "1",
    DUP: "2",
    PUT: "p",
    GET: "g",
    EXT1: "\x82",
    EXT2: "\x83",
    EXT4: "\x84",
    INST: "i",
    OBJ: "o",
    NEWOBJ: "\x81",
    NEWOBJ_EX: "\x92",
    PERSID: "P",
  }).map(([name, code]) => [code.charCodeAt(0), name]),
)

/**
 * The value of the pickle that begins at the source's next byte; the source is left behind its STOP. Time and memory
 * are bounded by the limits above, whatever the pickle says. Throws `Refused`, with the place of the instruction in
 * the file.
 */
export const run = <A>(from: Source, host: Host<A>): Value<A> => {
  const begin = from.at()
  let instruction = begin
  try {
    const step = machine(from, host)
    for (;;) {
      instruction = from.at()
      const done = step(instruction === begin)
      if (done !== undefined) return done.value
    }
  } catch (cause) {
    if (!(cause instanceof Refused)) throw cause
    throw new Refused(`has a pickle that is refused at byte ${instruction}: ${cause.message}`)
  }
}

/** Each call runs one instruction; the last, STOP, gives the value. */
const machine = <A>(from: Source, host: Host<A>) => {
  const stack: Array<Value<A>> = []
  /** Heights of the stack. */
  const marks: Array<number> = []
  const memo = new Map<number, Value<A>>()
  let made = 0

  const u8 = from.byte
  const view = (length: number) => {
    const { buffer, byteOffset } = from.take(length)
    return new DataView(buffer, byteOffset, length)
  }
  const u32 = () => view(4).getUint32(0, true)
  /** Lengths beyond the limits lose their last digits, which changes nothing. */
  const u64 = () => Number(view(8).getBigUint64(0, true))

  const push = (value: Value<A>) => {
    if (stack.length + marks.length >= DEEPEST) throw new Refused(`it stacks more than ${DEEPEST} values`)
    stack.push(value)
  }
  /** Of a value that takes memory of its own. */
  const make = (value: Value<A>) => {
    made++
    if (made > MOST) throw new Refused(`it makes more than ${MOST} values`)
    push(value)
  }
  const pop = (): Value<A> => {
    if (stack.length === (marks.at(-1) ?? 0)) throw new Refused("it takes a value where there is none")
    return stack.pop()!
  }
  const mark = () => {
    if (stack.length + marks.length >= DEEPEST) throw new Refused(`it stacks more than ${DEEPEST} values`)
    marks.push(stack.length)
  }
  const popToMark = () => {
    const height = marks.pop()
    if (height === undefined) throw new Refused("it goes back to a mark where there is none")
    return stack.splice(height)
  }
  const popItems = (count: number) => Array.from({ length: count }, pop).toReversed()
  /** The value that stays on the stack while items are added to it. */
  const top = <K extends "list" | "dict">(kind: K) => {
    const value = pop()
    stack.push(value)
    if (value === null || typeof value !== "object" || value.kind !== kind) {
      throw new Refused(`it adds items to ${shown(value)}, which is no ${kind}`)
    }
    return value as Extract<Value<A>, { readonly kind: K }>
  }
  const setItems = (items: ReadonlyArray<Value<A>>) => {
    if (items.length % 2 !== 0) throw new Refused("it adds a key without a value")
    const dict = top("dict")
    for (const item of items) dict.items.push(item)
  }
  const append = (items: ReadonlyArray<Value<A>>) => {
    const list = top("list")
    for (const item of items) list.items.push(item)
  }
  const put = (index: number) => {
    const value = pop()
    stack.push(value)
    memo.set(index, value)
    if (memo.size > MOST) throw new Refused(`it remembers more than ${MOST} values`)
  }
  const get = (index: number) => {
    const value = memo.get(index)
    if (value === undefined) throw new Refused(`it recalls value ${index}, which it never remembered`)
    push(value)
  }

  const text = (length: number) => {
    if (length > LONGEST) throw new Refused(`it has a string of ${length} bytes; names take at most ${LONGEST}`)
    const bytes = from.take(length)
    try {
      return UTF8.decode(bytes)
    } catch {
      throw new Refused("it has a string that is not UTF-8")
    }
  }
  const line = () => {
    const bytes: Array<number> = []
    for (let byte = u8(); byte !== 0x0a; byte = u8()) {
      bytes.push(byte)
      if (bytes.length > 256) throw new Refused("it names a global in more than 256 bytes")
    }
    return String.fromCharCode(...bytes)
  }
  const integer = () => {
    const length = u8()
    if (length > 16) throw new Refused(`it has an integer of ${length} bytes; expected at most 16`)
    // Little-endian, two's complement; no bytes are 0.
    const bytes = from.take(length)
    const unsigned = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
    const value = BigInt.asIntN(8 * bytes.length, unsigned)
    return Number.isSafeInteger(Number(value)) ? Number(value) : value
  }
  const globals = new Map<string, Global>()
  const named = (module: string, name: string): Global => {
    const full = `${module}.${name}`
    if (!host.globals.has(full)) {
      throw new Refused(`global ${printable(full)} is not a tensor's; the file may be hostile; nothing was run`)
    }
    const known = globals.get(full) ?? { kind: "global", name: full }
    globals.set(full, known)
    return known
  }
  const stackGlobal = () => {
    const [module, name] = popItems(2)
    if (typeof module !== "string" || typeof name !== "string") throw new Refused("it names a global not by strings")
    return named(module, name)
  }
  const reduce = () => {
    const [callee, args] = popItems(2) as [Value<A>, Value<A>]
    if (callee === null || typeof callee !== "object" || callee.kind !== "global") {
      throw new Refused(`it calls ${shown(callee)}, which is no global`)
    }
    if (args === null || typeof args !== "object" || args.kind !== "tuple") {
      throw new Refused(`it calls ${callee.name} with ${shown(args)}; expected a tuple`)
    }
    make(host.call(callee.name, args.items))
  }
  const build = () => {
    const state = pop()
    top("dict")
    if (state === null || typeof state !== "object" || state.kind !== "dict") {
      throw new Refused(`it gives a dict the attributes ${shown(state)}; expected a dict`)
    }
    const unknown = state.items.find((key, i) => i % 2 === 0 && !(typeof key === "string" && host.attributes.has(key)))
    if (unknown !== undefined) {
      const known = [...host.attributes].join(", ")
      throw new Refused(`it gives a dict the attribute ${shown(unknown)}; known: ${known}`)
    }
  }

  const proto = () => {
    const version = u8()
    if (version < 2 || version > 5) throw new Refused(`it is of protocol ${version}; known: 2 to 5`)
  }
  /** Only a hint of how much to read at once. */
  const frame = () => {
    const length = u64()
    if (length > from.left()) throw new Refused(`it has a frame of ${length} bytes, of which ${from.left()} are there`)
  }
  const stop = () => {
    const value = pop()
    if (stack.length + marks.length > 0) throw new Refused("it stops with values left over")
    return value
  }

  const tuple = (items: ReadonlyArray<Value<A>>) => make({ kind: "tuple", items })
  const instructions: { readonly [code: string]: () => void } = {
    "\x80": proto, // PROTO
    "\x95": frame, // FRAME
    N: () => push(null), // NONE
    "\x88": () => push(true), // NEWTRUE
    "\x89": () => push(false), // NEWFALSE
    K: () => push(u8()), // BININT1
    M: () => push(view(2).getUint16(0, true)), // BININT2
    J: () => push(view(4).getInt32(0, true)), // BININT
    "\x8a": () => push(integer()), // LONG1
    G: () => push(view(8).getFloat64(0, false)), // BINFLOAT
    "\x8c": () => push(text(u8())), // SHORT_BINUNICODE
    X: () => push(text(u32())), // BINUNICODE
    "\x8d": () => push(text(u64())), // BINUNICODE8
    "}": () => make({ kind: "dict", items: [] }), // EMPTY_DICT
    s: () => setItems(popItems(2)), // SETITEM
    u: () => setItems(popToMark()), // SETITEMS
    "]": () => make({ kind: "list", items: [] }), // EMPTY_LIST
    a: () => append(popItems(1)), // APPEND
    e: () => append(popToMark()), // APPENDS
    ")": () => tuple([]), // EMPTY_TUPLE
    "\x85": () => tuple(popItems(1)), // TUPLE1
    "\x86": () => tuple(popItems(2)), // TUPLE2
    "\x87": () => tuple(popItems(3)), // TUPLE3
    t: () => tuple(popToMark()), // TUPLE
    "(": mark, // MARK
    q: () => put(u8()), // BINPUT
    r: () => put(u32()), // LONG_BINPUT
    "\x94": () => put(memo.size), // MEMOIZE
    h: () => get(u8()), // BINGET
    j: () => get(u32()), // LONG_BINGET
    c: () => push(named(line(), line())), // GLOBAL
    "\x93": () => push(stackGlobal()), // STACK_GLOBAL
    R: reduce, // REDUCE
    b: build, // BUILD
    Q: () => make(host.persistent(pop())), // BINPERSID
  }
  const table = new Map(Object.entries(instructions).map(([code, run]) => [code.charCodeAt(0), run]))

  return (first: boolean): { readonly value: Value<A> } | undefined => {
    const code = u8()
    if (first !== (code === PROTO)) {
      throw new Refused(first ? "it does not begin with PROTO" : "instruction PROTO is not its first")
    }
    if (code === STOP) return { value: stop() }
    const run = table.get(code)
    if (run === undefined) {
      const name = OTHERS.get(code) ?? `0x${code.toString(16).padStart(2, "0")}`
      throw new Refused(`instruction ${name} is not one that torch.save writes for tensors; nothing was run`)
    }
    run()
    return undefined
  }
}
