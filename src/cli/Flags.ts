/** Arguments and flags that several commands share. */
export const study = { name: "study", description: "a study file (YAML)" } as const

export const cache = {
  kind: "text",
  value: "folder",
  description: "cache folder; otherwise ASSAY_CACHE, or cache/ in the product's folder",
} as const
export const set = {
  kind: "texts",
  value: "stage.parameter=value",
  description: "replace a value of the study; may be repeated",
} as const
export const only = {
  kind: "texts",
  value: "cell or stage",
  description: "only these and what they need; may be repeated",
} as const
export const jobs = {
  kind: "count",
  value: "n",
  short: "j",
  description: "cells computed at the same time, and worker threads; otherwise one for each processor",
} as const
export const frozen = {
  kind: "switch",
  description: "refuse what study.lock.yaml does not pin",
} as const
export const json = { kind: "switch", description: "print JSON" } as const
