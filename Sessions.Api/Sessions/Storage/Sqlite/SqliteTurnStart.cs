namespace Sessions.Api;

/// <summary>A turn that has started, with the key of the very session it stands on: a later one with the same id is another.</summary>
internal sealed class SqliteTurnStart(TurnRequest request, long? ground) : TurnStart(request, TurnStartStatus.Started)
{
    /// <summary>The session's key; <see langword="null"/>: there was none.</summary>
    public long? Ground { get; } = ground;

    /// <summary>The last turns that are known: those of the history, or more.</summary>
    public IReadOnlyList<Turn> LastTurns { get; init; } = [];
}
