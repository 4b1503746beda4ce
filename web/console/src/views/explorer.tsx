import { Empty, Page } from "../ui";

export default function View() {
  return <Page title="explorer"><Empty title="Nothing here yet" /></Page>;
}
