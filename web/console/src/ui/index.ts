// The parts that all views are made of.
export { Badge, type Tone } from "./badge";
export { Button, CopyButton, LinkButton } from "./button";
export { Dialog } from "./dialog";
export { Checkbox, Field, Input, SearchInput, Select, TextArea } from "./field";
export { firstControl, useFocus } from "./focus";
export { Icon, type IconName } from "./icon";
export { Page, Section } from "./page";
export { Answered, Empty, Failed, Loading, Notice, Refused } from "./states";
export { type Column, Facts, Table } from "./table";
export { Time, useNow, useZone } from "./time";
export { Wrapping } from "./wrapping";
