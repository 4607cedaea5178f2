declare module "virtual:chinese" {
  const table: Record<string, string>;
  export default table;
}
