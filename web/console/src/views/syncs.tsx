import { Empty, Page } from "../ui";

export default function View() {
  return <Page title="syncs"><Empty title="Nothing here yet" /></Page>;
}
