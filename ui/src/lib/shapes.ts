// Numbers as lines and areas: pure functions to SVG paths.

export interface Point {
  /** Both between 0 and 1; y grows upwards. */
  x: number;
  y: number;
}

/** A line through the points, in a box of this size. */
export function linePath(points: Point[], width: number, height: number): string {
  return points
    .map(({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${at(x * width)} ${at((1 - y) * height)}`)
    .join('');
}

/** The area between the points and the ground. */
export function areaPath(points: Point[], width: number, height: number): string {
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return '';
  return `${linePath(points, width, height)}L${at(last.x * width)} ${height}L${at(first.x * width)} ${height}Z`;
}

/** Values as points of a line that fills the box's width and leaves a little air above its highest. */
export function spread(values: number[]): Point[] {
  const highest = Math.max(...values, 0);
  return values.map((value, i) => ({
    x: values.length === 1 ? 1 : i / (values.length - 1),
    y: highest === 0 ? 0 : (value / highest) * 0.9,
  }));
}

function at(n: number): string {
  return n.toFixed(1).replace(/\.0$/, '');
}
