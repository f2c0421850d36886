// Counters of two answers as a rate, by the clock of whoever counted.

export class Rates {
  #before = new Map();
  #now = new Map();

  // In a second. Null: there was none before, or it has begun anew. Where nothing was read since the last answer, what was true then.
  of(key, counter, clock) {
    if (typeof counter !== "number" || typeof clock !== "number") return null;
    const before = this.#before.get(key);
    let next = { counter, clock, rate: null };
    if (before && clock === before.clock) next = before;
    else if (before && clock > before.clock && counter >= before.counter) next.rate = (counter - before.counter) / (clock - before.clock);
    this.#now.set(key, next);
    return next.rate;
  }

  // All has been asked for, of this answer. What was not asked for is forgotten.
  turn() {
    this.#before = this.#now;
    this.#now = new Map();
  }

  clear() {
    this.#before.clear();
    this.#now.clear();
  }
}

// The sum of what is known; null where nothing is.
export function sum(numbers) {
  const known = numbers.filter((number) => number !== null && number !== undefined);
  return known.length ? known.reduce((all, one) => all + one, 0) : null;
}
