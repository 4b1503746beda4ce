export function App() {
  return <main><h1>c1proxy</h1></main>;
}
