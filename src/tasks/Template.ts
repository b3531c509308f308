/** `{field}` in a task's texts is replaced by the item's field. Nothing is evaluated. */
import * as Effect from "effect/Effect"
import { type Item, type Unscorable, unscorable } from "./Scorer.ts"

/** Fill a template from an item. Numbers are written as they are; a missing field is an error that lists the fields. */
export const fill = (template: string, item: Item, index: number): Effect.Effect<string, Unscorable> =>
  Effect.suspend(() => {
    const missing: Array<string> = []
    const text = template.replace(/\{(\w+)\}/g, (whole, field: string) => {
      const value = item[field]
      if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value)
      missing.push(field)
      return whole
    })
    return missing.length === 0
      ? Effect.succeed(text)
      : Effect.fail(
          unscorable(
            `item ${index} has no text or number ${missing.join(", ")}; it has ${Object.keys(item).join(", ")}`,
          ),
        )
  })

/** The one field a template such as `{endings}` names, or `undefined`. */
export const field = (template: string): string | undefined => /^\{(\w+)\}$/.exec(template)?.[1]

/** The group an item's metrics are also reported for: `lines=8`. */
export const group = (
  template: string | undefined,
  item: Item,
  index: number,
): Effect.Effect<string | undefined, Unscorable> =>
  template === undefined
    ? Effect.succeed(undefined)
    : Effect.map(fill(template, item, index), (text) => {
        const name = field(template)
        return name === undefined ? text : `${name}=${text}`
      })
