/** What can go wrong between a study and a hub. Each says what, where, and what to do. No error ever holds the token. */
import * as Schema from "effect/Schema"

/** An environment variable that cannot be used as it is. */
export class BadSetting extends Schema.TaggedError<BadSetting>()("BadSetting", {
  variable: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.variable} ${this.reason}`
  }
}

/** `source` is the reference as the study has it, `page` where a person reads about it. */
const where = { source: Schema.String, page: Schema.String }

/** What the hub itself says of a refusal, in brackets; made fit for a terminal before. */
const said = (reason: string) => (reason === "" ? "" : ` (the hub says: ${reason})`)

export class GatedRepo extends Schema.TaggedError<GatedRepo>()("GatedRepo", {
  ...where,
  token: Schema.Boolean,
  reason: Schema.String,
}) {
  override get message() {
    const token = this.token
      ? "the account of the token in use has not been granted access: accept its conditions there, or take another account's token with `hf auth login` or HF_TOKEN"
      : "accept its conditions there with your account, and run `hf auth login` or set HF_TOKEN to a token of it"
    return `${this.source} is gated: its owner decides who may read ${this.page}${said(this.reason)}; ${token}`
  }
}
export class MissingRepo extends Schema.TaggedError<MissingRepo>()("MissingRepo", {
  ...where,
  token: Schema.Boolean,
  reason: Schema.String,
}) {
  override get message() {
    const token = this.token
      ? "use a token that may read it (`hf auth login` or HF_TOKEN)"
      : "run `hf auth login` or set HF_TOKEN to a token that may read it"
    return `${this.source}: there is no ${this.page}, or it is private${said(this.reason)}; check the name, or ${token}`
  }
}
export class MissingRevision extends Schema.TaggedError<MissingRevision>()("MissingRevision", {
  ...where,
  revision: Schema.String,
}) {
  override get message() {
    return `${this.source}: ${this.page} has no revision '${this.revision}'; write one of its branches or tags, or a full commit`
  }
}
export class MissingFile extends Schema.TaggedError<MissingFile>()("MissingFile", {
  ...where,
  file: Schema.String,
  commit: Schema.String,
}) {
  override get message() {
    return `${this.source}: ${this.page} has no file ${this.file} at commit ${this.commit}; check the name, or choose another revision`
  }
}
/** Unknown or expired; the hub then refuses what is public, too. */
export class BadToken extends Schema.TaggedError<BadToken>()("BadToken", { ...where, reason: Schema.String }) {
  override get message() {
    return `${this.source}: the hub does not accept the token in use${said(this.reason)}; get a new one with \`hf auth login\`, or renew it at the hub and set HF_TOKEN; what is public needs none (\`hf auth logout\`, and HF_TOKEN unset)`
  }
}
/** Told to wait, and waited as often and as long as we are willing to. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  ...where,
  seconds: Schema.Finite,
  attempts: Schema.Int,
}) {
  override get message() {
    const tries = this.attempts === 1 ? "once" : `${this.attempts} times`
    return `${this.source}: the hub refuses more requests for now (asked ${tries}; it says to wait ${this.seconds} s); run again later, or set HF_TOKEN for a higher limit`
  }
}
export class ServerFailed extends Schema.TaggedError<ServerFailed>()("ServerFailed", {
  ...where,
  url: Schema.String,
  status: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    const reason = this.reason === "" ? "" : ` (${this.reason})`
    return `${this.source}: ${this.url} answers with status ${this.status}${reason}; run again later, or check HF_ENDPOINT and the token's permissions`
  }
}
/** No connection, not even a broken one. */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  ...where,
  url: Schema.String,
  reason: Schema.String,
  /** Further things to try, each with `; ` after it. */
  advice: Schema.String,
}) {
  override get message() {
    return `${this.source}: ${this.url} cannot be reached: ${this.reason}; ${this.advice}check the connection and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what is in the cache`
  }
}
/** Cut off again and again. What has arrived is kept. */
export class Interrupted extends Schema.TaggedError<Interrupted>()("Interrupted", {
  ...where,
  file: Schema.String,
  done: Schema.Int,
  size: Schema.Int,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.source}: the download of ${this.file} broke off at byte ${this.done} of ${this.size}: ${this.reason}; run again, and it goes on from there`
  }
}
/** Bytes that are not the ones the digest stands for: on their way, or in the cache. */
export class Tampered extends Schema.TaggedError<Tampered>()("Tampered", {
  ...where,
  file: Schema.String,
  /** Where the bytes are or came from. */
  at: Schema.String,
  expected: Schema.String,
  found: Schema.String,
  advice: Schema.String,
}) {
  override get message() {
    return `${this.source}: ${this.file} is not what it should be: ${this.at} has ${this.found}, expected ${this.expected}; ${this.advice}`
  }
}
/** A server that does not speak the hub's language, or means harm. */
export class BadAnswer extends Schema.TaggedError<BadAnswer>()("BadAnswer", { ...where, reason: Schema.String }) {
  override get message() {
    return `${this.source}: ${this.reason}; nothing of it was used, check HF_ENDPOINT`
  }
}
export class NotCached extends Schema.TaggedError<NotCached>()("NotCached", {
  ...where,
  what: Schema.String,
  cache: Schema.String,
}) {
  override get message() {
    return `${this.source}: ${this.what} is not in ${this.cache}, and HF_HUB_OFFLINE forbids to fetch it; run once without it`
  }
}
/** The cache folder cannot be read or written, or is full. */
export class CacheError extends Schema.TaggedError<CacheError>()("CacheError", {
  path: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the Hugging Face cache cannot be used: ${this.path}: ${this.reason}`
  }
}

export const HubError = Schema.Union([
  GatedRepo,
  MissingRepo,
  MissingRevision,
  MissingFile,
  BadToken,
  RateLimited,
  ServerFailed,
  Unreachable,
  Interrupted,
  Tampered,
  BadAnswer,
  NotCached,
  CacheError,
])
export type HubError = typeof HubError.Type

/** Of what comes back through code that is not ours. */
export const isHubError = Schema.is(HubError)
