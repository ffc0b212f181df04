// Positions are sorted; not all of 1..L-1 need have been measured.

export function nearestPosition(positions, wanted) {
  let [low, high] = [0, positions.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (positions[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  const before = positions[low - 1];
  return before !== undefined && wanted - before <= positions[low] - wanted ? low - 1 : low;
}
