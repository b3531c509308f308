/** What a checkpoint can be made of, for lists: where it may come from, and the formats of its files. */
import { DTYPE_BYTES } from "../src/data/Safetensors.ts"
import { DTYPES } from "../src/math/Elements.ts"
import * as Ggml from "../src/math/Ggml.ts"

export interface Line {
  readonly name: string
  readonly description: string
}

export const sources: ReadonlyArray<Line> = [
  { name: "bundled:<name>", description: "comes with Assay" },
  { name: "dir:<folder>", description: "a folder in the Hugging Face layout: config.json, a tokenizer, weights" },
  { name: "gguf:<file>", description: "one file of llama.cpp's, with its tokenizer" },
  { name: "hub:<owner>/<name>@<revision>", description: "the same layout on the Hugging Face hub" },
  { name: "hub:<owner>/<name>@<revision>#<file>.gguf", description: "one GGUF file of a repository" },
]

export const formats: ReadonlyArray<Line> = [
  {
    name: "safetensors",
    description: `model.safetensors, or several files with an index: ${DTYPES.filter((dtype) => dtype in DTYPE_BYTES).join(", ")}`,
  },
  {
    name: "PyTorch",
    description: "pytorch_model.bin, or several files with an index; read as tensors, nothing in them is run",
  },
  { name: "GGUF", description: Ggml.DTYPES.filter(Ggml.isWeight).join(", ") },
  {
    name: "tokenizers",
    description:
      "tokenizer.json; or tokenizer.model (SentencePiece); or vocab.json with merges.txt; or that of a GGUF file",
  },
]
