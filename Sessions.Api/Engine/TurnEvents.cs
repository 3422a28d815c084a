using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>What happens in a running turn, in order. Formatters in Http make server-sent events of them: the native ones, and those of
/// <c>/v1</c>.</summary>
internal abstract record TurnEvent
{
    /// <summary>About how many bytes it takes to keep.</summary>
    public virtual int Bytes => 96;
}

/// <summary>The turn has begun: its session is known, and nothing more can refuse it.</summary>
/// <param name="SessionId">The session.</param>
/// <param name="SessionKey">Its key.</param>
/// <param name="Nonce">What the turn's ids are made of.</param>
/// <param name="Number">The number that the turn is going to have.</param>
/// <param name="SessionCreated">Whether the turn brings the session into being.</param>
/// <param name="At">When.</param>
internal sealed record TurnBegun(string SessionId, Guid SessionKey, TurnNonce Nonce, int Number, bool SessionCreated, DateTimeOffset At)
    : TurnEvent;

/// <summary>An item of the output begins. Each item is done before the next one is added.</summary>
/// <param name="Index">Its place in the output, from 0.</param>
/// <param name="Type">Its type: <c>message</c>, <c>function_call</c>, <c>reasoning</c>, <c>mcp_call</c>, <c>mcp_list_tools</c>.</param>
/// <param name="Item">
/// The item as it is at first, in JSON without its id: a message without content, a call without arguments; with
/// <c>"status":"in_progress"</c> where its type has a status.
/// </param>
internal sealed record ItemAdded(int Index, string Type, ReadOnlyMemory<byte> Item) : TurnEvent
{
    public override int Bytes => base.Bytes + Item.Length;
}

/// <summary>More of a message's text.</summary>
/// <param name="Index">The item.</param>
/// <param name="ContentIndex">The part of its content.</param>
/// <param name="Text">The text: whole characters.</param>
internal sealed record TextDelta(int Index, int ContentIndex, Utf8Text Text) : TurnEvent
{
    /// <summary>Whether the part is a refusal: the model says that it won't answer.</summary>
    public bool IsRefusal { get; init; }

    public override int Bytes => base.Bytes + Text.Length;
}

/// <summary>More of a call's arguments.</summary>
/// <param name="Index">The item.</param>
/// <param name="Delta">A piece of JSON text.</param>
internal sealed record ArgumentsDelta(int Index, Utf8Text Delta) : TurnEvent
{
    public override int Bytes => base.Bytes + Delta.Length;
}

/// <summary>A tool of the server's own runs now. Its arguments come next, in one piece.</summary>
/// <param name="Index">The item.</param>
internal sealed record ToolStarted(int Index) : TurnEvent;

/// <summary>A tool of the server's own has ended.</summary>
/// <param name="Index">The item.</param>
/// <param name="Failed">Whether it failed; the item tells its error.</param>
internal sealed record ToolEnded(int Index, bool Failed) : TurnEvent;

/// <summary>An item is whole.</summary>
/// <param name="Index">Its place in the output.</param>
/// <param name="Type">Its type.</param>
/// <param name="Item">The item in JSON without its id, as it is going to be kept.</param>
internal sealed record ItemDone(int Index, string Type, ReadOnlyMemory<byte> Item) : TurnEvent
{
    public override int Bytes => base.Bytes + Item.Length;
}

/// <summary>The turn is committed, or was before; or ran to its end without being stored.</summary>
/// <param name="Result">The turn.</param>
internal sealed record TurnCompleted(TurnResult Result) : TurnEvent
{
    public override int Bytes => base.Bytes + (int)Result.Turn.Bytes;
}

/// <summary>The turn did not come about.</summary>
/// <param name="Error">Why.</param>
internal sealed record TurnFailed(Error Error) : TurnEvent
{
    /// <summary>The Response as <c>/v1</c> tells a failed one (without id, output and conversation), where the turn was asked for
    /// there.</summary>
    public ReadOnlyMemory<byte> Response { get; init; }
}

/// <summary>A turn that is in the history.</summary>
/// <param name="SessionId">Its session.</param>
/// <param name="SessionKey">Its session's key.</param>
/// <param name="UserId">The user that the session is bound to, if any.</param>
/// <param name="Turn">The turn.</param>
/// <param name="Replayed">Whether it was there before.</param>
internal sealed record TurnResult(string SessionId, Guid SessionKey, string? UserId, Turn Turn, bool Replayed);

/// <summary>Who is told what happens in a turn, as it happens.</summary>
internal interface ITurnObserver
{
    /// <summary>Something has happened. Called in order, and never after the turn has completed or failed.</summary>
    void On(TurnEvent happened);

    /// <summary>Nothing more happens for a while: what has happened is to be passed on. Never called with a lock held.</summary>
    void Flush();
}
