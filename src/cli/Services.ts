/** What the product's stages ask for when they run. Provided in `main.ts`. */
import type { Pool } from "../compute/Pool.ts"

export type Services = Pool
