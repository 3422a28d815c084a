using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>Renews a lease for as long as its turn runs, and hears whether somebody wants the turn to stop.</summary>
internal sealed class LeaseKeeper : IAsyncDisposable
{
    // A turn that is cancelled on another replica stops within 2 seconds.
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1.5);

    private readonly PeriodicTimer _timer;
    private readonly Task _renewing;

    /// <summary>Starts.</summary>
    /// <param name="store">The store.</param>
    /// <param name="opened">What has the lease.</param>
    /// <param name="lease">How long a lease lasts. In real time: it is the servers' clocks that it runs out by.</param>
    /// <param name="turn">The turn, which is told what becomes of the lease; <see langword="null"/>: nobody needs to know.</param>
    public LeaseKeeper(ISessionStore store, OpenedSession opened, TimeSpan lease, BegunTurn? turn)
    {
        _timer = new PeriodicTimer(lease / 3 < LongestPause ? lease / 3 : LongestPause);
        _renewing = RenewAsync(store, opened, turn);
    }

    public async ValueTask DisposeAsync()
    {
        _timer.Dispose();
        await _renewing;
    }

    private async Task RenewAsync(ISessionStore store, OpenedSession opened, BegunTurn? turn)
    {
        while (await _timer.WaitForNextTickAsync())
        {
            try
            {
                switch (await store.RenewAsync(opened, CancellationToken.None))
                {
                    case LeaseState.Cancelled:
                        turn?.Cancel();
                        break;
                    case LeaseState.Lost:
                        turn?.LoseLease();
                        return;
                }
            }
            catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
            {
                // The next one may get through; where none does, the commit finds out.
            }
        }
    }
}
