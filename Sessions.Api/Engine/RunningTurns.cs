using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>The turns that run in this process: which sessions must not make room for others, and whom a request to stop is for.</summary>
internal sealed class RunningTurns
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, List<Entry>> _bySession = new(StringComparer.Ordinal);

    /// <summary>How many sessions have a turn that runs.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _bySession.Values.Count(entries => entries.Exists(entry => !entry.IsSource));
            }
        }
    }

    /// <summary>Whether a turn runs on a session.</summary>
    public bool IsRunning(string sessionId)
    {
        lock (_lock)
        {
            return _bySession.ContainsKey(sessionId);
        }
    }

    /// <summary>A turn is to begin, as soon as no other replica has its session.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="isSource">Whether it only goes on from that session, and has one of its own.</param>
    /// <returns>To be disposed of when it has ended.</returns>
    public Entry Add(string sessionId, Owner owner, bool isSource = false)
    {
        var entry = new Entry(this, sessionId, owner) { IsSource = isSource };
        lock (_lock)
        {
            if (!_bySession.TryGetValue(sessionId, out var entries))
            {
                _bySession.Add(sessionId, entries = new(1));
            }

            entries.Add(entry);
        }

        return entry;
    }

    /// <summary>Asks the turns of that owner's on a session to stop: those that have begun, not those that wait for them.</summary>
    /// <returns>Whether there was one.</returns>
    public bool Stop(string sessionId, Owner owner)
    {
        List<Entry> entries;
        lock (_lock)
        {
            entries = _bySession.TryGetValue(sessionId, out var running)
                ? running.FindAll(entry => entry.HasBegun && entry.IsFor(owner)) : [];
        }

        entries.ForEach(entry => entry.Stop());
        return entries.Count > 0;
    }

    /// <summary>A turn that runs, or waits for another replica's.</summary>
    internal sealed class Entry(RunningTurns turns, string sessionId, Owner owner) : IDisposable
    {
        private CancellationTokenSource? _stop;
        private bool _isStopped;

        /// <summary>On whose behalf it runs.</summary>
        public Owner Owner { get; } = owner;

        /// <summary>Whether it has a session of its own, and only keeps this one meanwhile.</summary>
        public bool IsSource { get; init; }

        /// <summary>Whether it has its session: until then another replica's turn may run on it, and a request to stop is for
        /// that.</summary>
        public bool HasBegun { get; set; }

        /// <summary>Whether a tool of the server's own was called: then the turn is not run again, by nobody.</summary>
        public bool ToolsRan { get; private set; }

        /// <summary>Cancelled when the turn is asked to stop. Made for whoever wants it first: most turns end before anybody could
        /// ask.</summary>
        public CancellationToken Stopped
        {
            get
            {
                lock (turns._lock)
                {
                    return _isStopped ? new CancellationToken(canceled: true) : (_stop ??= new CancellationTokenSource()).Token;
                }
            }
        }

        /// <summary>Whether it is that owner's; anyone's is every turn.</summary>
        public bool IsFor(Owner owner) => owner.IsAnyone || Owner.IsSameAs(owner);

        /// <summary>A tool of the server's own is called.</summary>
        public void ToolRuns() => ToolsRan = true;

        /// <summary>Asks it to stop.</summary>
        public void Stop()
        {
            CancellationTokenSource? stop;
            lock (turns._lock)
            {
                _isStopped = true;
                stop = _stop;
            }

            stop?.Cancel();
        }

        public void Dispose()
        {
            lock (turns._lock)
            {
                if (turns._bySession.TryGetValue(sessionId, out var entries) && entries.Remove(this) && entries.Count == 0)
                {
                    turns._bySession.Remove(sessionId);
                }
            }
        }
    }
}
