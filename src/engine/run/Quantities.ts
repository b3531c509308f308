/** Numbers as people read them. */

/** Seconds: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`. */
export const duration = (seconds: number): string => {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Bytes: `512 B`, `3.1 MB`, `1.2 GB`. */
export const bytes = (n: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB"]
  const power = n < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(n) / 3))
  const value = n / 1000 ** power
  return `${power === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

/** `1 cell`, `1,200 cells` */
export const count = (n: number, noun: string): string =>
  `${String(n).replace(/\B(?=(\d{3})+$)/g, ",")} ${noun}${n === 1 ? "" : "s"}`

/** A rate per second: `850`, `12.3k`. */
export const rate = (perSecond: number): string =>
  perSecond >= 10_000
    ? `${(perSecond / 1000).toFixed(1)}k`
    : perSecond >= 10
      ? perSecond.toFixed(0)
      : perSecond.toFixed(1)
