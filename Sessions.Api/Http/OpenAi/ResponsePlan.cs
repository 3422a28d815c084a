using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// What is to be done for a request, found out before anything begins: the conversation or chain that is continued, and the items that
/// are new in it.
/// </summary>
internal sealed class ResponsePlan(SessionLog log, StoredItems stored, LimitSettings limits, TimeProvider time)
{
    /// <summary>Finds out.</summary>
    /// <exception cref="OpenAiException">Something that is named is not there, or not for this owner.</exception>
    public async ValueTask<TurnCommand> MakeAsync(
        ResponseRequest request, Agent agent, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        var (session, tip) = await FindAsync(request, owner, cancellationToken);
        var input = request.Text is { } text ? Items.OfText(text)
            : ResolvedItem.NewOnes(
                await stored.ResolveAsync(request.Items, "input", session, tip, owner, tellsKnown: false, cancellationToken));
        if (input.IsNone && session is null or { TurnCount: 0 })
        {
            throw new OpenAiException(
                "input", "Missing required parameter: 'input' must hold at least one item.", "missing_required_parameter");
        }

        agent.Check(input, request.Options);
        var isConversation = session is { Kind: not SessionKind.Chain } && request.PreviousResponseId is null;

        // A chain that starts from a response of a conversation: the conversation stays as it is, and the chain has its turns up to there.
        var branches = session is { Kind: not SessionKind.Chain } && !isConversation && request.Store;
        var id = branches ? await NewBranchIdAsync(session!, owner, idempotency, cancellationToken) : session?.Id;
        return new TurnCommand
        {
            Session = id is null ? null : SessionRef.ById(id),
            MustExist = session is not null && !branches,
            BranchOf = branches ? session : null,
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
            Response = new ResponseObject(request.Echoed(), agent.Type),
        };
    }

    private async ValueTask<(Session? Session, Turn? Tip)> FindAsync(
        ResponseRequest request, Owner owner, CancellationToken cancellationToken)
    {
        if (request.Conversation is { } conversation)
        {
            return await log.FindAsync(conversation, owner, cancellationToken) is { } found
                ? (found, found.LastTurn)
                : throw new OpenAiException(OpenAiError.NotFound("Conversation", conversation));
        }

        if (request.PreviousResponseId is { } previous)
        {
            return ResponseId.TryParse(previous, out var id)
                && await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { Turn.Response.IsEmpty: false } found
                ? (found.Session, found.Turn)
                : throw new OpenAiException(OpenAiError.PreviousResponseNotFound(previous));
        }

        return (null, null);
    }

    // The same request gets the same one.
    private async ValueTask<string> NewBranchIdAsync(
        Session conversation, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        var id = BranchMarker.NewId(conversation.Key, time);
        if (idempotency is not { } key)
        {
            return id;
        }

        var reservation = await log.ReserveAsync(key, owner, id, cancellationToken);
        return reservation.SameBody ? reservation.SessionId : throw new DomainException(Error.IdempotencyKeyReused);
    }
}
