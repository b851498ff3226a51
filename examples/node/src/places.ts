/** So many at once and no more; whoever finds no place waits in order. */
export class Places {
  private free: number;
  private readonly waiting: Array<() => void> = [];

  constructor(count: number) {
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(`at least one place is needed, not ${count}`);
    }
    this.free = count;
  }

  /** Runs `work` in a place, and gives it back however `work` ends. */
  async in<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      // Handed on directly: nobody who comes now overtakes whoever waits.
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}
