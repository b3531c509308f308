/** Runs in a worker: seconds of native code that nothing can interrupt. */
import { pbkdf2Sync } from "node:crypto"

export const grind = (rounds: number): string => pbkdf2Sync("", "", rounds, 64, "sha512").toString("hex")
