import { useCallback, useLayoutEffect, useRef } from "preact/hooks";

type Find = (root: HTMLElement) => HTMLElement | null | undefined;

/**
 * Moves the focus after a press, whose own button may be gone by then: what find finds in
 * the element that root is the ref of takes it as soon as the press shows.
 */
export function useFocus(): readonly [root: (element: HTMLElement | null) => void, focus: (find: Find) => void] {
  const element = useRef<HTMLElement | null>(null);
  const asked = useRef<Find | undefined>(undefined);
  useLayoutEffect(() => {
    const target = element.current && asked.current?.(element.current);
    asked.current = undefined;
    if (!target) return;
    if (target.tabIndex < 0) target.tabIndex = -1;
    target.focus();
  });
  return [
    useCallback((next: HTMLElement | null) => { element.current = next; }, []),
    useCallback((find: Find) => { asked.current = find; }, []),
  ];
}

/** The first input or button in an element. */
export function firstControl(within: Element | null | undefined): HTMLElement | null | undefined {
  return within?.querySelector<HTMLElement>("input, select, textarea, button");
}
