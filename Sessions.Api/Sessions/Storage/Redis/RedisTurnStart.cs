namespace Sessions.Api;

/// <summary>A turn that has started, with the lease that keeps other processes from the session until it ends.</summary>
/// <param name="request">The turn that was asked for.</param>
/// <param name="ground">The incarnation of the session it stands on: a later one with the same id is another. <see langword="null"/>: there is none.</param>
/// <param name="token">What the lease is known by.</param>
internal sealed class RedisTurnStart(TurnRequest request, string? ground, string token) : TurnStart(request, TurnStartStatus.Started), IDisposable
{
    private Timer? _renewal;

    public string? Ground { get; } = ground;

    public string Token { get; } = token;

    /// <summary>The last turns of the session, oldest first: the history, and where there are more to hand, more.</summary>
    public IReadOnlyList<Turn> LastTurns { get; init; } = [];

    /// <summary>Whether the session is in all the indexes where it belongs after the turn.</summary>
    public bool IsListed { get; init; }

    /// <summary>Whether the lease is to be kept no longer: the turn is ending, or the lease was lost.</summary>
    public bool IsEnding { get; private set; }

    /// <summary>Whether there is nothing left to let go of.</summary>
    public bool HasEnded { get; set; }

    /// <summary>Renews the lease from time to time. In real time: a lease runs out by the server's clock.</summary>
    public void RenewEvery(TimeSpan interval, Action<RedisTurnStart> renew) =>
        _renewal = new Timer(_ => renew(this), null, interval, interval);

    /// <summary>Renews the lease no more.</summary>
    public void Dispose()
    {
        IsEnding = true;
        _renewal?.Dispose();
    }
}
