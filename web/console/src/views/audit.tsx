import { Empty, Page } from "../ui";

export default function View() {
  return <Page title="audit"><Empty title="Nothing here yet" /></Page>;
}
