// A dashboard as TypeScript that compiles only where it is what @grafana/schema says: the whole, and each panel's options and
// field options by the schema of its type.

import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';

/** Grafana's types of panels: where in @grafana/schema, and whether their fields have options of their own. */
const PANELS: Record<string, [folder: string, file: string, fields: boolean]> = {
  bargauge: ['bargauge', 'BarGauge', false],
  gauge: ['gauge', 'Gauge', false],
  nodeGraph: ['nodegraph', 'NodeGraph', false],
  stat: ['stat', 'Stat', false],
  table: ['table', 'Table', true],
  timeseries: ['timeseries', 'TimeSeries', true],
};

const HEADER = `import type { Dashboard, Panel } from '@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen';

// What JSON has in place of enums.
type Json<T> = T extends string ? \`\${T}\` : T extends number ? number : T extends boolean | null | undefined ? T : unknown extends T ? unknown : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
`;

/** The TypeScript. */
export const checked = (dashboard: Dashboard): string => {
  const panels = (dashboard.panels ?? []).filter((panel) => panel.type !== 'row') as unknown as Record<string, any>[];
  const types = [...new Set(panels.map((panel) => panel.type as string))].sort();
  const text = [HEADER];
  for (const type of types) {
    const known = PANELS[type];
    if (!known) throw new Error(`no schema for panels of type ${type}`);
    const [folder, file] = known;
    text.push(`import type * as ${folder} from '@grafana/schema/dist/esm/raw/composable/${folder}/panelcfg/x/${file}PanelCfg_types.gen';`);
  }
  const { panels: _, ...rest } = dashboard;
  text.push(`export const dashboard: Json<Omit<Dashboard, 'panels'>> = ${JSON.stringify(rest, null, 1)};`);
  panels.forEach((panel, n) => {
    const [folder, , fields] = PANELS[panel.type]!;
    const { options, ...own } = panel;
    text.push(`export const panel${n}: Json<Omit<Panel, 'options'>> = ${JSON.stringify(own, null, 1)};`);
    text.push(`export const options${n}: Json<Partial<${folder}.Options>> = ${JSON.stringify(options ?? {}, null, 1)};`);
    const custom = own.fieldConfig?.defaults?.custom;
    if (fields) text.push(`export const custom${n}: Json<Partial<${folder}.FieldConfig>> = ${JSON.stringify(custom ?? {}, null, 1)};`);
    else if (custom) throw new Error(`${panel.title}: fields of ${panel.type} have no options of their own`);
  });
  return text.join('\n') + '\n';
};
