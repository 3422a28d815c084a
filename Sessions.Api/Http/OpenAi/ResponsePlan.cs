using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// What is to be done for a request, found out before anything begins: the conversation or chain that is continued, and the items that
/// are new in it.
/// </summary>
internal sealed class ResponsePlan(SessionLog log, LimitSettings limits, TimeProvider time)
{
    private const int MaxReferences = 1000;

    /// <summary>Finds out.</summary>
    /// <exception cref="OpenAiException">Something that is named is not there, or not for this owner.</exception>
    public async ValueTask<TurnCommand> MakeAsync(ResponseRequest request, Agent agent, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        var (session, tip) = await FindAsync(request, owner, cancellationToken);
        var input = request.Text is { } text ? Items.OfText(text) : await ResolveAsync(request.Items, session, tip, owner, cancellationToken);
        if (input.IsNone && session is null or { TurnCount: 0 })
        {
            throw new OpenAiException("input", "Missing required parameter: 'input' must hold at least one item.", "missing_required_parameter");
        }

        agent.Check(input, request.Options);
        var isConversation = session is { Kind: not SessionKind.Chain } && request.PreviousResponseId is null;
        if (session is { Kind: not SessionKind.Chain } && !isConversation && request.Store)
        {
            session = await BranchAsync(session, tip!.Number, owner, idempotency, cancellationToken);
        }

        return new TurnCommand
        {
            Session = session is null ? null : SessionRef.ById(session.Id),
            MustExist = session is not null,
            Kind = isConversation ? session!.Kind : SessionKind.Chain,
            Owner = owner,
            Input = input,
            Agent = agent,
            Options = request.Options,
            AfterTurn = isConversation ? null : tip?.Number,
            Idempotency = idempotency,
            History = new HistoryBounds(int.MaxValue, limits.HistoryBytes, MayCut: request.Truncates),

            // What goes into a conversation goes there in any case; what is asked alone is kept only where it is to be found again.
            Store = request.Store || isConversation,
            KeepsResponse = request.Store,
            Response = new ResponseObject(request, agent.Type),
        };
    }

    private async ValueTask<(Session? Session, Turn? Tip)> FindAsync(ResponseRequest request, Owner owner, CancellationToken cancellationToken)
    {
        if (request.Conversation is { } conversation)
        {
            return await Conversations.FindAsync(log, conversation, owner, cancellationToken) is { } found
                ? (found, found.LastTurn)
                : throw new OpenAiException(OpenAiError.NotFound("Conversation", conversation));
        }

        if (request.PreviousResponseId is { } previous)
        {
            return ResponseId.TryParse(previous, out var id) && await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { Turn.Response.IsEmpty: false } found
                ? (found.Session, found.Turn)
                : throw new OpenAiException(OpenAiError.PreviousResponseNotFound(previous));
        }

        return (null, null);
    }

    // A chain that starts from a response of a conversation: the conversation stays as it is, and the chain has its turns up to there.
    // The same request gets the same one.
    private async ValueTask<Session> BranchAsync(Session conversation, int afterTurn, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        var (id, reservedBy) = (SessionLog.NewBranchId(conversation.Key, time), (Guid?)null);
        if (idempotency is { } key)
        {
            var reservation = await log.ReserveAsync(key, owner, id, cancellationToken);
            if (!reservation.SameBody)
            {
                throw new DomainException(Error.IdempotencyKeyReused);
            }

            (id, reservedBy) = (reservation.SessionId, key.Key);
            if (!reservation.IsNew && await log.GetAsync(SessionRef.ById(id), owner, cancellationToken) is { } before)
            {
                return before;
            }
        }

        var chain = new NewSession(id, SessionKey.New(), SessionKind.Chain, conversation.UserId, default, SessionOrigin.Fork, reservedBy);
        try
        {
            return await log.ForkAsync(SessionRef.ByKey(conversation.Key), owner, afterTurn, chain, cancellationToken);
        }
        catch (DomainException e) when (e.Error.Code == "session_exists")
        {
            return await log.GetAsync(SessionRef.ById(id), owner, cancellationToken) ?? throw new DomainException(Error.SessionNotFound(id));
        }
    }

    // Items that refer to stored ones: those that the history has already are not given twice; others are taken from where they stand.
    private async ValueTask<Items> ResolveAsync(IReadOnlyList<InputItem> items, Session? session, Turn? tip, Owner owner, CancellationToken cancellationToken)
    {
        List<ReadOnlyMemory<byte>> resolved = new(items.Count);
        Dictionary<TurnId, FoundTurn?> turns = [];
        for (var i = 0; i < items.Count; i++)
        {
            var (type, id, raw) = items[i];
            var isReference = type == InputItem.Reference;
            if (!isReference && (id is null || session is null))
            {
                resolved.Add(raw);
                continue;
            }

            var turn = ItemId.TryParse(id, out var parsed) && (isReference || parsed.Key == session!.Key) ? await FindAsync(parsed, session, tip, owner, turns, cancellationToken) : null;
            var stored = turn is null ? null : Conversations.ItemOf(turn.Turn, parsed);
            if (isReference && stored?.IdText != id)
            {
                throw new OpenAiException(OpenAiError.NotFound("Item", id!) with { Param = $"input[{i}].id" });
            }

            if (stored is null || !turn!.IsInHistory)
            {
                resolved.Add(isReference ? stored!.Value.Raw : raw);
            }
        }

        return resolved.Count == 0 ? Items.None : Items.OfJson(ItemJson.Join(resolved));
    }

    private async ValueTask<FoundTurn?> FindAsync(
        ItemId id, Session? session, Turn? tip, Owner owner, Dictionary<TurnId, FoundTurn?> turns, CancellationToken cancellationToken)
    {
        var turnId = new TurnId(id.Key, id.Nonce);
        if (!turns.TryGetValue(turnId, out var turn))
        {
            if (turns.Count == MaxReferences)
            {
                throw new OpenAiException("input", $"Invalid 'input': items of at most {MaxReferences} turns can be referred to.", "array_above_max_length");
            }

            if (await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { } found)
            {
                turn = new FoundTurn(found.Turn, found.Session.Key == session?.Key && await IsOnPathAsync(found.Turn, session, tip, owner, cancellationToken));
            }

            turns.Add(turnId, turn);
        }

        return turn;
    }

    // A session may have branches that don't know of each other.
    private async ValueTask<bool> IsOnPathAsync(Turn turn, Session session, Turn? tip, Owner owner, CancellationToken cancellationToken)
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
        return await log.ReadTurnsAsync(SessionRef.ByKey(session.Key), owner, request, cancellationToken) is { Turns: [var before, ..] } && before.Number == turn.Number;
    }

    private readonly record struct TurnId(Guid Key, TurnNonce Nonce);

    private sealed record FoundTurn(Turn Turn, bool IsInHistory);
}
