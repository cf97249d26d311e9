// Writes every dashboard into the folder that is named, and beside it what `tsc` is to hold against Grafana's schema.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import * as dashboards from './dashboards.js';
import { checked } from './check.js';

const [out, check] = process.argv.slice(2);
if (!out || !check) throw new Error('usage: index.js DASHBOARDS CHECKS');
mkdirSync(out, { recursive: true });
mkdirSync(check, { recursive: true });
for (const builder of Object.values(dashboards)) {
  const dashboard = builder.build();
  // Ids are only for panels to be told apart: in their order.
  let id = 0;
  for (const panel of dashboard.panels ?? []) panel.id = ++id;
  // The SDK gives every variable what only those of type interval have.
  for (const variable of dashboard.templating?.list ?? []) {
    for (const key of ['auto', 'auto_min', 'auto_count'] as const) delete (variable as Partial<typeof variable>)[key];
  }
  writeFileSync(join(out, `${dashboard.uid}.json`), JSON.stringify(dashboard, null, 1) + '\n');
  writeFileSync(join(check, `${dashboard.uid}.ts`), checked(dashboard));
}
