import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "preact/hooks";
import { usePreference } from "../kept";

export type Zone = "local" | "utc";

/** Whether times are shown as here or in UTC. */
export function useZone(): [Zone, (zone: Zone) => void] {
  return usePreference<Zone>("zone", "local");
}

/** The time now, anew every second or so; it stands still while the page is hidden. */
export function useNow(everyMs = 1000): number {
  const [now, set] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) set(Date.now());
    }, everyMs);
    const seen = () => set(Date.now());
    document.addEventListener("visibilitychange", seen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [everyMs]);
  return now;
}

/**
 * A time. relative (the rule) is "3 min ago", or the date of what is more than a
 * month away, with all of it in the title; full is
 * the date and time with seconds; clock is the time of day alone, for rows of a log.
 */
export function Time({ of, show = "relative" }: { of: Timestamp | Date | undefined; show?: "relative" | "full" | "clock" }) {
  const [zone] = useZone();
  const now = useNow(show === "relative" ? 5000 : 3_600_000);
  if (!of) return <span class="muted">never</span>;
  const date = of instanceof Date ? of : timestampDate(of);
  const full = fullTime(date, zone);
  const text = show === "full" ? full : show === "clock" ? clockTime(date, zone) : relativeTime(date.getTime() - now) ?? full.slice(0, 10);
  return <time dateTime={date.toISOString()} title={full}>{text}</time>;
}

/** A date and time with seconds and its zone. */
export function fullTime(date: Date, zone: Zone): string {
  if (zone === "utc") return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19).replace("T", " ");
  const hours = String(Math.floor(Math.abs(offset) / 60)).padStart(2, "0");
  const minutes = String(Math.abs(offset) % 60).padStart(2, "0");
  return `${local} ${offset < 0 ? "−" : "+"}${hours}:${minutes}`;
}

function clockTime(date: Date, zone: Zone): string {
  const milliseconds = String(date.getUTCMilliseconds()).padStart(3, "0");
  return `${fullTime(date, zone).slice(11, 19)}.${milliseconds}`;
}

const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const steps = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
] as const;

/** How far a time is, in words; undefined where the date says more. */
function relativeTime(difference: number): string | undefined {
  if (Math.abs(difference) > 30 * 86_400_000) return undefined;
  for (const [unit, size] of steps) {
    if (Math.abs(difference) >= size) return words.format(Math.trunc(difference / size), unit);
  }
  if (Math.abs(difference) < 10_000) return "just now";
  return words.format(Math.trunc(difference / 1000), "second");
}
