import { Empty, Page } from "../ui";

export default function View() {
  return <Page title="access"><Empty title="Nothing here yet" /></Page>;
}
