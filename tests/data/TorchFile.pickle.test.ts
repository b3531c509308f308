/** Pickles that are not what `torch.save` writes, each as the state dict of a legacy file. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { BadFile, BadTensor } from "../../src/data/TensorFile.ts"
import * as TorchFile from "../../src/data/TorchFile.ts"
import { folder } from "../support/folder.ts"

const latin1 = (text: string) => Buffer.from(text, "latin1")
const u32 = (n: number) => String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >>> 24) & 255)
const string = (text: string) => `X${u32(Buffer.byteLength(text))}${Buffer.from(text).toString("latin1")}`
const short = (text: string) => `\x8c${String.fromCharCode(text.length)}${text}`
const global = (module: string, name: string) => `c${module}\n${name}\n`

/** Magic number, version and machine: what comes before the state dict, and its keys after it. */
const HEAD = `\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}${string("little_endian")}\x88s.`
const KEYS = "\x80\x02]."
const write = Effect.fnUntraced(function* (body: string | ReadonlyArray<Uint8Array>) {
  const file = join(yield* folder, "pytorch_model.bin")
  const pieces = typeof body === "string" ? [latin1(body)] : body
  writeFileSync(file, Buffer.concat([latin1(HEAD), ...pieces, latin1(KEYS)]))
  return file
})
const refused = Effect.fnUntraced(function* (
  body: string | ReadonlyArray<Uint8Array>,
  message: RegExp,
  kind: new (...args: any) => Error = BadFile,
) {
  const error = yield* Effect.flip(TorchFile.read(yield* write(body)))
  assert.instanceOf(error, kind)
  assert.match(error.message, message)
  assert.isBelow(error.message.length, 600)
})

describe("a call of", () => {
  const mark = join("/tmp", `torch-file-${process.pid}`)
  const calls: ReadonlyArray<readonly [name: string, body: string]> = [
    ["os.system", `${global("os", "system")}${string(`touch ${mark}`)}\x85R`],
    ["builtins.eval", `${short("builtins")}${short("eval")}\x93${string("1")}\x85R`],
    ["builtins.getattr", `}${string("a")}${global("builtins", "getattr")})Rs`],
    ["torch.load", `${global("torch", "load")}${string("x")}\x85R`],
    ["torch.storage.TypedStorage", `${global("torch.storage", "TypedStorage")})R`],
    ["torch._utils.constructor", `${global("torch._utils", "constructor")})R`],
    ["collections.OrderedDict.fromkeys", `${short("collections")}${short("OrderedDict.fromkeys")}\x93)R`],
    ["__proto__.__proto__", `${global("__proto__", "__proto__")})R`],
  ]
  for (const [name, body] of calls) {
    it.effect(`${name} is refused by name and place`, () =>
      Effect.gen(function* () {
        const at = HEAD.length + 2 + Math.max(body.indexOf("c"), body.indexOf("\x93"))
        yield* refused(
          `\x80\x04${body}.`,
          new RegExp(
            `refused at byte ${body.includes("\x93") || body.startsWith("c") ? at : "\\d+"}: ` +
              `global ${name.replaceAll(".", "\\.")} is not a tensor's; the file may be hostile; nothing was run`,
          ),
        )
        assert.isFalse(existsSync(mark))
      }),
    )
  }
  it.effect("what a terminal would obey is shown as text", () =>
    refused(`\x80\x02${global("\x1b[2J", "x")}.`, /global \\u001b\[2J\.x is not/),
  )
  it.effect("a name without end", () => refused(`\x80\x02c${"a".repeat(300)}\n\n.`, /names a global in more than 256/))
})

describe("an instruction", () => {
  const instructions: ReadonlyArray<readonly [name: string, body: string]> = [
    ["INST", "(ios\nsystem\n"],
    ["OBJ", `(${string("os")}o`],
    ["NEWOBJ", `${global("torch", "Size")})\x81`],
    ["NEWOBJ_EX", `${global("torch", "Size")})}\x92`],
    ["EXT1", "\x82\x01"],
    ["EXT2", "\x83\x01\x00"],
    ["EXT4", "\x84\x01\x00\x00\x00"],
    ["PERSID", "P0\n"],
    ["GET", "g0\n"],
    ["PUT", "Np0\n"],
    ["POP", "N0"],
    ["POP_MARK", "(1"],
    ["DUP", "N2"],
    ["INT", "I1\n"],
    ["LONG", "L1L\n"],
    ["LONG4", "\x8b\xff\xff\xff\x7f"],
    ["STRING", "S'a'\n"],
    ["BINSTRING", "T\xff\xff\xff\x7f"],
    ["BINBYTES8", `\x8e${"\xff".repeat(8)}`],
    ["BYTEARRAY8", `\x96${"\xff".repeat(8)}`],
    ["EMPTY_SET", "\x8f"],
    ["LIST", "(l"],
    ["DICT", "(d"],
    ["0xff", "\xff"],
    ["0x00", "\x00"],
  ]
  for (const [name, body] of instructions) {
    it.effect(`${name} is refused by name`, () =>
      refused(
        `\x80\x04${body}.`,
        new RegExp(`instruction ${name} is not one that torch.save writes for tensors; nothing`),
      ),
    )
  }

  const misused: ReadonlyArray<readonly [what: string, body: string, message: RegExp]> = [
    ["without PROTO", "}.", /it does not begin with PROTO/],
    ["of a second PROTO", "\x80\x02\x80\x02}.", /instruction PROTO is not its first/],
    ["of an old protocol", "\x80\x01}.", /of protocol 1; known: 2 to 5/],
    ["of a new protocol", "\x80\x06}.", /of protocol 6/],
    ["that takes from an empty stack", "\x80\x02R.", /takes a value where there is none/],
    ["that takes from below a mark", "\x80\x02N(N\x86.", /takes a value where there is none/],
    ["that goes back to no mark", "\x80\x02Nt.", /goes back to a mark where there is none/],
    ["that recalls what was never there", "\x80\x02h\x05.", /recalls value 5, which it never remembered/],
    ["that remembers nothing", "\x80\x02q\x00.", /takes a value where there is none/],
    ["that adds items to a number", "\x80\x02K\x01(NNu.", /adds items to 1, which is no dict/],
    [
      "that adds items to a global",
      `\x80\x02${global("torch", "Size")}NNs.`,
      /adds items to torch\.Size, which is no dict/,
    ],
    ["that adds a key without a value", "\x80\x02}(Nu.", /adds a key without a value/],
    ["that appends to a dict", "\x80\x02}Na.", /adds items to a dict, which is no list/],
    ["that calls a string", `\x80\x02${string("os.system")})R.`, /calls "os\.system", which is no global/],
    [
      "that calls with a list",
      `\x80\x02${global("torch", "Size")}]R.`,
      /calls torch\.Size with a list; expected a tuple/,
    ],
    ["that calls a type", `\x80\x02${global("torch", "FloatStorage")})R.`, /calls torch\.FloatStorage, which makes no/],
    [
      "that calls with a wrong argument",
      `\x80\x02${global("torch", "Size")}N\x85R.`,
      /calls torch\.Size with \(None\)/,
    ],
    [
      "that fills a dict on the way",
      `\x80\x02${global("collections", "OrderedDict")}]\x85R.`,
      /calls collections\.OrderedDict with/,
    ],
    ["that names a global by numbers", "\x80\x04K\x01K\x02\x93.", /names a global not by strings/],
    [
      "that sets attributes",
      `\x80\x02}}${string("__class__")}Nsb.`,
      /gives a dict the attribute "__class__"; known: _metadata/,
    ],
    ["that sets attributes by a tuple", "\x80\x02}NN\x86b.", /gives a dict the attributes .*; expected a dict/],
    ["that sets attributes of a tensor", `\x80\x02${global("torch", "Size")}}b.`, /adds items to torch\.Size/],
    ["with a frame beyond its end", `\x80\x04\x95${"\xff".repeat(8)}}.`, /has a frame of 18446744073709552000 bytes/],
    [
      "with a string beyond its end",
      "\x80\x02X\xff\xff\xff\x7f}.",
      /has a string of 2147483647 bytes; names take at most 65536/,
    ],
    [
      "with a string beyond any memory",
      `\x80\x04\x8d${"\xff".repeat(8)}}.`,
      /has a string of 18446744073709552000 bytes; names/,
    ],
    [
      "with a string longer than names are",
      `\x80\x02${string("a".repeat(70_000))}.`,
      /70000 bytes; names take at most/,
    ],
    ["with a string cut short", "\x80\x02X\x00\xff\x00\x00}.", /it ends inside an instruction/],
    ["with a string that is not UTF-8", "\x80\x02X\x02\x00\x00\x00\xc3\x28.", /has a string that is not UTF-8/],
    [
      "with an integer longer than any",
      `\x80\x02\x8a\x11${"\x01".repeat(17)}.`,
      /has an integer of 17 bytes; expected at/,
    ],
    ["that leaves values behind", "\x80\x02N}.", /stops with values left over/],
    ["that leaves a mark behind", "\x80\x02(}.", /stops with values left over/],
    [
      "that refers to a string outside",
      `\x80\x02${string("a")}Q.`,
      /refers to "a" outside of it; expected \("storage", type/,
    ],
    [
      "that refers to a module outside",
      `\x80\x02(${string("module")}${global("torch", "Size")}${string("x")}${string("y")}tQ.`,
      /refers to \("module", …, "x", "y"\) outside of it/,
    ],
    [
      "that refers to a storage by a number",
      `\x80\x02(${string("storage")}${global("torch", "FloatStorage")}K\x01${string("cpu")}K\x01tQ.`,
      /refers to \("storage", …, 1, "cpu", 1\) outside of it/,
    ],
    [
      "that refers to a view of a storage",
      `\x80\x02(${string("storage")}${global("torch", "FloatStorage")}${string("1")}${string("cpu")}K\x01NN\x86tQ.`,
      /has a view of a storage/,
    ],
    [
      "that refers to a storage in two ways",
      ["FloatStorage", "IntStorage"]
        .map((type) => `(${string("storage")}${global("torch", type)}${string("1")}${string("cpu")}K\x01NtQ`)
        .reduce((all, one) => all + one, "\x80\x02")
        .concat("\x86."),
      /refers to storage "1" in two ways/,
    ],
  ]
  for (const [what, body, message] of misused) it.effect(`a pickle ${what}`, () => refused(body, message))
})

describe("a value", () => {
  const values: ReadonlyArray<readonly [what: string, body: string, message: RegExp]> = [
    ["that is a list", "\x80\x02].", /holds a list; expected a dict of tensors by name/],
    ["that is a tuple", "\x80\x02NK\x01\x86.", /holds \(None, 1\); expected a dict/],
    ["that is a number", "\x80\x02G\x7f\xf0\x00\x00\x00\x00\x00\x00.", /holds Infinity; expected a dict/],
    ["that is a dict of numbers", "\x80\x02}K\x01K\x02s.", /has a tensor named 1; expected a string/],
    [
      "that is in itself",
      `\x80\x02}q\x00${string("a")}h\x00s.`,
      /dicts inside a dict with the keys "a"; save the state/,
    ],
    ["that has a list in itself", `\x80\x02}${string("a")}]q\x00h\x00as.`, /tensor a is a list, not a tensor/],
    ["that has a string", `\x80\x02}${string("a")}${string("\x1b[2J")}s.`, /tensor a is "\\u001b\[2J", not a tensor/],
    [
      "that has a dict as prototype",
      `\x80\x02}${string("__proto__")}}s.`,
      /dicts inside a dict with the keys "__proto__"/,
    ],
    [
      "that has a storage",
      `\x80\x02}${string("a")}(${string("storage")}${global("torch", "FloatStorage")}${string("1")}${string("cpu")}K\x00tQs.`,
      /does not list all storages/,
    ],
  ]
  for (const [what, body, message] of values) {
    const kind = message.source.startsWith("tensor") ? BadTensor : BadFile
    it.effect(`${what} is refused`, () => refused(body, message, kind))
  }
  for (const name of ["\ufeffa", "größe", "a\0b", "n".repeat(60_000)]) {
    it.effect(`named ${JSON.stringify(name.slice(0, 10))} keeps its name`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(TorchFile.read(yield* write(`\x80\x02}${string(name)}K\x01s.`)))
        assert.instanceOf(error, BadTensor)
        assert.strictEqual((error as BadTensor).tensor, name)
      }),
    )
  }
  it.effect("of nothing is an empty catalog", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* TorchFile.read(yield* write("\x80\x02}."))).size, 0)
      assert.strictEqual(
        (yield* TorchFile.read(yield* write(`\x80\x05${global("collections", "OrderedDict")})R.`))).size,
        0,
      )
      assert.isUndefined(({} as { readonly [key: string]: unknown })["a"])
    }),
  )
})

describe("a bomb", () => {
  const many = (unit: string, count: number) => Buffer.alloc(unit.length * count, latin1(unit))
  /** Fails within seconds and without much memory, or not at all. */
  const defused = (body: ReadonlyArray<Uint8Array>, message: RegExp) =>
    Effect.gen(function* () {
      const file = yield* write(body)
      const before = process.memoryUsage().rss
      const start = performance.now()
      const error = yield* Effect.flip(TorchFile.read(file))
      assert.match(error.message, message)
      assert.isBelow(performance.now() - start, 30_000)
      assert.isBelow(process.memoryUsage().rss - before, 900e6)
    })
  const begin = latin1("\x80\x02")
  // Lists of ten times the list before, which is held once: 10^40 leaves.
  const laughs = `]q\x00${Array.from({ length: 40 }, (_, i) => {
    const get = `h${String.fromCharCode(i)}`
    return `](${get.repeat(10)}eq${String.fromCharCode(i + 1)}`
  }).join("")}`
  const cases: ReadonlyArray<readonly [what: string, body: ReadonlyArray<Uint8Array>, message: RegExp]> = [
    ["of marks", [begin, many("(", 2_000_000)], /stacks more than 100000 values/],
    ["of values", [begin, many("N", 2_000_000)], /stacks more than 100000 values/],
    ["of recalled values", [begin, latin1("Nq\0"), many("h\0", 2_000_000)], /stacks more than 100000 values/],
    ["of lists inside lists", [begin, many("]", 99_999), many("a", 99_998), latin1(".")], /holds a list; expected/],
    ["of lists many times over", [begin, latin1(laughs), many("a", 40), latin1(".")], /holds a list; expected/],
    ["of dicts", [begin, latin1("]"), many(`(${"}".repeat(1000)}e`, 5000)], /makes more than 2097152 values/],
    ["of remembered values", [latin1("\x80\x04N"), many("\x94", 5_000_000)], /remembers more than 2097152 values/],
    ["of names", [begin, latin1("]"), many(`${string("a".repeat(60_000))}a`, 600)], /takes more than 33554432 bytes/],
  ]
  for (const [what, body, message] of cases) it.effect(what, () => defused(body, message), 60_000)
})
