using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Storage;

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
            : ResolvedItem.NewOnes(await stored.ResolveAsync(request.Items, "input", session, tip, owner, cancellationToken));
        if (input.IsNone && session is null or { TurnCount: 0 })
        {
            throw new OpenAiException(
                "input", "Missing required parameter: 'input' must hold at least one item.", "missing_required_parameter");
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

    // A chain that starts from a response of a conversation: the conversation stays as it is, and the chain has its turns up to there.
    // The same request gets the same one.
    private async ValueTask<Session> BranchAsync(
        Session conversation, int afterTurn, Owner owner, Idempotency? idempotency, CancellationToken cancellationToken)
    {
        var (id, reservedBy) = (BranchMarker.NewId(conversation.Key, time), (Guid?)null);
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
            // Taken and not there yet: the same request is making it at this moment.
            return await log.GetAsync(SessionRef.ById(id), owner, cancellationToken)
                ?? throw new DomainException(Error.IdempotencyInProgress(id));
        }
    }
}
