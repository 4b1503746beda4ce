import { useEffect } from "preact/hooks";
import { usePreference } from "./kept";

export type Theme = "system" | "light" | "dark";

/** The theme that was chosen, and shows the page in it. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, set] = usePreference<Theme>("theme", "system");
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return [theme, set];
}
