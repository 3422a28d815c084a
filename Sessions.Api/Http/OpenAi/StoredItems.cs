using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.OpenAi;

/// <summary>An item that a client sent, and what it stands for.</summary>
/// <param name="Raw">The item in JSON without its id: as it was sent, or as it is stored where it refers to a stored one.</param>
/// <param name="Known">The item of the history that it is; <see langword="null"/>: it is new there.</param>
internal readonly record struct ResolvedItem(ReadOnlyMemory<byte> Raw, TurnItem? Known)
{
    /// <summary>Those that are new.</summary>
    public static Items NewOnes(IEnumerable<ResolvedItem> items)
    {
        List<ReadOnlyMemory<byte>> added = [.. items.Where(item => item.Known is null).Select(item => item.Raw)];
        return added.Count == 0 ? Items.None : Items.OfJson(ItemJson.Join(added));
    }
}

/// <summary>
/// Finds the stored items that the ids of sent ones name: those that the history has already are not given twice; others that are referred
/// to are taken from where they stand. Any other id says nothing.
/// </summary>
internal sealed class StoredItems(SessionLog log, LimitSettings limits)
{
    private const int MaxReferences = 1000;

    /// <summary>Finds them.</summary>
    /// <param name="items">What was sent.</param>
    /// <param name="param">How errors name it.</param>
    /// <param name="session">The session whose history it comes to, if there is one.</param>
    /// <param name="tip">The turn behind which it comes.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="tellsKnown">Whether those that are there already are to be told: then with what is stored of them.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="OpenAiException">Something that is referred to is not there, or not for this owner.</exception>
    public async ValueTask<List<ResolvedItem>> ResolveAsync(
        IReadOnlyList<InputItem> items, string param, Session? session, Turn? tip, Owner owner, bool tellsKnown,
        CancellationToken cancellationToken)
    {
        List<ResolvedItem> resolved = new(items.Count);
        var search = new Search(log, param, session, tip, owner, limits.ContentBytes);
        long bytes = 0;
        for (var i = 0; i < items.Count; i++)
        {
            var (type, id, raw) = items[i];
            var isReference = type == InputItem.Reference;
            TurnItem? stored = null;
            var isKnown = false;
            if (ItemId.TryParse(id, out var place) && (isReference || place.Key == session?.Key)
                && await search.FindAsync(place, cancellationToken) is { } turn)
            {
                (stored, isKnown) = (Conversations.ItemOf(turn.Turn, place), turn.IsInHistory);
            }

            if (isReference && stored?.IdText != id)
            {
                throw new OpenAiException(OpenAiError.NotFound("Item", id!) with { Param = $"{param}[{i}].id" });
            }

            if (isKnown ? tellsKnown : isReference)
            {
                // Without the turn that it stands in.
                CheckBytes(bytes += stored!.Value.Raw.Length, param);
                stored = stored.Value with { Raw = stored.Value.Raw.ToArray() };
            }
            else
            {
                stored = stored is null ? null : stored.Value with { Raw = default };
            }

            resolved.Add(new ResolvedItem(isReference && !isKnown ? stored!.Value.Raw : raw, isKnown ? stored : null));
        }

        return resolved;
    }

    // No more than could have been sent: an id is short, and what it stands for may be large.
    private void CheckBytes(long bytes, string param)
    {
        if (bytes > limits.ContentBytes)
        {
            throw new OpenAiException(
                param,
                $"Invalid '{param}': the items that ids stand for must have at most {limits.ContentBytes} bytes together "
                + "(limits.content_bytes).",
                "array_above_max_length");
        }
    }

    private readonly record struct TurnId(Guid Key, TurnNonce Nonce);

    private sealed record FoundTurn(Turn Turn, bool IsInHistory);

    // Items of one turn mostly come together: the last turns are kept, as far as they are not too large.
    private sealed class Search(SessionLog log, string param, Session? session, Turn? tip, Owner owner, long maxBytes)
    {
        private readonly Dictionary<TurnId, FoundTurn?> _turns = [];
        private long _bytes;
        private int _count;

        public async ValueTask<FoundTurn?> FindAsync(ItemId id, CancellationToken cancellationToken)
        {
            var turnId = new TurnId(id.Key, id.Nonce);
            if (!_turns.TryGetValue(turnId, out var turn))
            {
                if (_count++ == MaxReferences)
                {
                    throw new OpenAiException(
                        param, $"Invalid '{param}': items of at most {MaxReferences} turns can be referred to.", "array_above_max_length");
                }

                if (await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { } found)
                {
                    var isInHistory = found.Session.Key == session?.Key && await IsOnPathAsync(found.Turn, session, cancellationToken);
                    turn = new FoundTurn(found.Turn, isInHistory);
                    _bytes += found.Turn.Bytes;
                    if (_bytes > maxBytes)
                    {
                        _turns.Clear();
                        _bytes = found.Turn.Bytes;
                    }
                }

                _turns.Add(turnId, turn);
            }

            return turn;
        }

        // A session may have branches that don't know of each other.
        private async ValueTask<bool> IsOnPathAsync(Turn turn, Session of, CancellationToken cancellationToken)
        {
            if (tip is null || turn.Number > tip.Number)
            {
                return false;
            }

            if (turn.Number >= tip.RunStart)
            {
                return true;
            }

            var request = new TurnPageRequest { Limit = 1, MaxBytes = 1, After = turn.Number + 1, Descending = true, Tip = tip.Number };
            return await log.ReadTurnsAsync(SessionRef.ByKey(of.Key), owner, request, cancellationToken) is { Turns: [var before, ..] }
                && before.Number == turn.Number;
        }
    }
}
