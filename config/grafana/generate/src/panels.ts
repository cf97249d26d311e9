// What all dashboards are made of: variables, rows of panels, queries.

import * as bargauge from '@grafana/grafana-foundation-sdk/bargauge';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as gauge from '@grafana/grafana-foundation-sdk/gauge';
import * as nodegraph from '@grafana/grafana-foundation-sdk/nodegraph';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** A query, and how its series are called. */
export type Query = readonly [promql: string, legend?: string];

/** Units of Grafana's (packages/grafana-data/src/valueFormats). */
export const unit = {
  bits: 'bps',
  bytesPerSecond: 'Bps',
  bytes: 'bytes',
  packets: 'pps',
  perSecond: 'cps',
  percent: 'percent',
  ratio: 'percentunit',
  seconds: 's',
  count: 'short',
} as const;
type Unit = (typeof unit)[keyof typeof unit];

/** Anything that a row can hold. */
export type Panel = timeseries.PanelBuilder | stat.PanelBuilder | gauge.PanelBuilder | bargauge.PanelBuilder | table.PanelBuilder | nodegraph.PanelBuilder;

const target = ([promql, legend]: Query, n: number) =>
  new prometheus.DataqueryBuilder().refId(String.fromCharCode(65 + n)).expr(promql).legendFormat(legend ?? '__auto');

/** Over time: one line for each series. */
export const series = (title: string, of: Unit, queries: Query[], description = '') => {
  const panel = new timeseries.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(of)
    .min(0)
    .fillOpacity(10)
    .lineWidth(1)
    .showPoints(common.VisibilityMode.Never)
    .legend(new common.VizLegendOptionsBuilder().displayMode(common.LegendDisplayMode.List).placement(common.LegendPlacement.Bottom).showLegend(true))
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending));
  queries.forEach((query, n) => panel.withTarget(target(query, n).range()));
  return panel.span(12).height(8);
};

/** The same, one on top of the other: parts of a whole. */
export const stacked = (title: string, of: Unit, queries: Query[], description = '') =>
  series(title, of, queries, description)
    .fillOpacity(40)
    .stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));

/** Green below the first limit, red from the second on. With `low`, the other way about. */
const limits = (warn: number, bad: number, low = false) =>
  new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps([
    { value: null, color: low ? 'red' : 'green' },
    { value: warn, color: 'orange' },
    { value: bad, color: low ? 'green' : 'red' },
  ]);

/** One number of now for each engine. */
export const number = (title: string, of: Unit, promql: string, bounds?: readonly [number, number, low?: boolean], description = '') => {
  const panel = new stat.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(of)
    .graphMode(common.BigValueGraphMode.Area)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .withTarget(target([promql, '{{instance}}'], 0).range());
  if (bounds) panel.thresholds(limits(...bounds)).colorMode(common.BigValueColorMode.Background);
  return panel.span(4).height(4);
};

/** A percentage of now for each engine. */
export const dial = (title: string, promql: string, warn: number, bad: number, description = '') =>
  new gauge.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(unit.percent)
    .min(0)
    .max(100)
    .thresholds(limits(warn, bad))
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .withTarget(target([promql, '{{instance}}'], 0).range())
    .span(4)
    .height(6);

/** A bar of now for each series, the longest first. */
export const bars = (title: string, of: Unit, query: Query, description = '') =>
  new bargauge.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(of)
    .min(0)
    .orientation(common.VizOrientation.Horizontal)
    .displayMode(common.BarGaugeDisplayMode.Gradient)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false))
    .withTarget(target(query, 0).instant())
    .span(12)
    .height(8);

/** Instant queries as a table; `columns` are fields by name, in order: what they are called, and their unit. */
export const rows = (
  title: string,
  queries: string[],
  columns: Record<string, readonly [name: string, of?: Unit]>,
  calculated: dashboard.DataTransformerConfig[] = [],
  sort?: string,
  description = '',
) => {
  const names = Object.keys(columns);
  const panel = new table.PanelBuilder().title(title).description(description).datasource(DATASOURCE).filterable(true);
  queries.forEach((promql, n) => panel.withTarget(target([promql], n).instant().format(prometheus.PromQueryFormat.Table)));
  if (queries.length > 1) panel.withTransformation({ id: 'merge', options: {} });
  calculated.forEach((one) => panel.withTransformation(one));
  panel.withTransformation({
    id: 'organize',
    options: {
      excludeByName: { Time: true, __name__: true, job: true },
      indexByName: Object.fromEntries(names.map((name, n) => [name, n])),
      renameByName: Object.fromEntries(names.map((name) => [name, columns[name]![0]])),
    },
  });
  for (const [name, of] of Object.values(columns)) if (of) panel.overrideByName(name, [{ id: 'unit', value: of }]);
  if (sort) panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(sort).desc(true)]);
  return panel.span(24).height(10);
};

/** A table of clients by endpoints, coloured: two axes of names, which Grafana's heat map (time on one axis) cannot have. */
export const matrix = (title: string, of: Unit, promql: string, row: string, column: string, description = '') =>
  new table.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .unit(of)
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.ContinuousBlPu))
    .cellOptions({ type: common.TableCellDisplayMode.ColorBackground, mode: common.TableCellBackgroundDisplayMode.Basic })
    .withTarget(target([promql], 0).instant().format(prometheus.PromQueryFormat.Table))
    .withTransformation({ id: 'groupingToMatrix', options: { rowField: row, columnField: column, valueField: 'Value', emptyValue: 'zero' } })
    .span(12)
    .height(14);

/** Nodes and edges. The panel wants a frame with `id`, `source`, `target`, `mainstat`, and one with `id`, `title`, `mainstat`. */
export const graph = (title: string, of: Unit, edges: string, nodes: string, description = '') =>
  new nodegraph.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(DATASOURCE)
    .nodes(new nodegraph.NodeOptionsBuilder().mainStatUnit(of))
    .edges(new nodegraph.EdgeOptionsBuilder().mainStatUnit(of))
    .withTarget(target([edges], 0).instant().format(prometheus.PromQueryFormat.Table))
    .withTarget(target([nodes], 1).instant().format(prometheus.PromQueryFormat.Table))
    .withTransformation({ id: 'renameByRegex', options: { regex: '^Value.*', renamePattern: 'mainstat' } })
    .span(12)
    .height(14);

const chosen = (name: string, label: string, query: string) =>
  new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query(query)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ selected: true, text: 'All', value: '$__all' });

/** Variables that a dashboard may have besides engine and data source: LoxiLB's, which know of more than one value. */
export const variables = {
  service: () => chosen('service', 'Service', 'label_values(total_requests_per_service{instance=~"$instance"}, service)'),
  endpoint: () => chosen('endpoint', 'Endpoint', 'label_values(endpoint_traffic_bytes{instance=~"$instance", service=~"$service"}, dip)'),
};

/** A whole dashboard. */
export const page = (uid: string, title: string, description: string, more: (keyof typeof variables)[], content: Record<string, Panel[]>) => {
  const result = new dashboard.DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['pollux', 'loxilb'])
    .timezone('browser')
    .time({ from: 'now-1h', to: 'now' })
    .refresh('10s')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .link(new dashboard.DashboardLinkBuilder('Pollux').type(dashboard.DashboardLinkType.Dashboards).tags(['pollux']).asDropdown(true).includeVars(true).keepTime(true))
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(chosen('instance', 'Engine', 'label_values(active_conntrack_count, instance)'));
  more.forEach((name) => result.withVariable(variables[name]()));
  for (const [row, panels] of Object.entries(content)) {
    result.withRow(new dashboard.RowBuilder(row));
    panels.forEach((panel) => result.withPanel(panel));
  }
  return result;
};
