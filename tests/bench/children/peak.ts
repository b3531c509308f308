/** Loaded into a process: writes the most memory it ever had resident, in bytes, to `PEAK_FILE` as it ends. */
import { readFileSync, writeFileSync } from "node:fs"

process.on("exit", () => {
  // The kernel's own mark begins anew with each program; resource usage also counts the parent before it.
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? []
  writeFileSync(process.env["PEAK_FILE"]!, String(Number(kilobytes) * 1024))
})
