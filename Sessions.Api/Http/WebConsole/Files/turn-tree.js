// A session's turns: a tree, of which one path is shown.
import { get, sessionPath } from "./api.js";

const PAGE = 30;

/** Reads a page of them on all branches, newest first. */
export const readTurns = (id, after, owner) =>
  get(sessionPath(id, "/history"), { branches: "all", include: "items", order: "desc", limit: PAGE, after, ...owner });

/** What was loaded of the turns of a session. Turns come newest first, so that the tree grows at its root. */
export class TurnTree {
  #turns = new Map();
  #children = new Map();
  newest = 0;

  /** Adds turns as the history tells them. */
  add(turns) {
    for (const turn of turns) {
      if (this.#turns.has(turn.turn)) continue;
      turn.parent = turn.after_turn ?? turn.turn - 1;
      this.#turns.set(turn.turn, turn);
      const children = this.#children.get(turn.parent) ?? [];
      children.push(turn.turn);
      this.#children.set(
        turn.parent,
        children.sort((a, b) => a - b),
      );
      this.newest = Math.max(this.newest, turn.turn);
    }
  }

  /** The turns that lead to one of them, oldest first; and whether earlier ones are not loaded yet. */
  path(tip) {
    const turns = [];
    let number = tip;
    for (let turn; (turn = this.#turns.get(number)); number = turn.parent) turns.push(turn);
    return { turns: turns.reverse(), isCut: number > 0 };
  }

  /** The turns that go on from the same one, this one among them. */
  siblings(number) {
    const turn = this.#turns.get(number);
    return turn ? this.#children.get(turn.parent) : [];
  }

  /** The newest turn of the branch that a turn begins. */
  tipOf(number) {
    let tip = number;
    for (let children; (children = this.#children.get(tip));) tip = children.at(-1);
    return tip;
  }
}
