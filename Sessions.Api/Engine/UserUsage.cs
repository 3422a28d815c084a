using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>Counts a user's turns and tokens by agent and day, out of the turns that are there.</summary>
/// <remarks>
/// Sessions are looked at from the one that was used last, and turns from the newest, until the first day is passed: so it costs what was
/// done in that time, and no more than <see cref="MaxTurns"/>, <see cref="MaxSessions"/> and <see cref="MaxBytes"/> in any case.
/// </remarks>
internal sealed class UserUsage(SessionLog log)
{
    /// <summary>How many turns are looked at.</summary>
    public const int MaxTurns = 20_000;

    /// <summary>How many sessions are looked at.</summary>
    public const int MaxSessions = 2_000;

    /// <summary>How many bytes of turns are looked at.</summary>
    public const long MaxBytes = 256 << 20;

    private const int PageSessions = 100;
    private const int PageTurns = 200;
    private const int PageBytes = 4 << 20;

    /// <summary>Counts.</summary>
    /// <param name="userId">Whose.</param>
    /// <param name="from">The first day, in UTC.</param>
    /// <param name="cancellationToken">Nobody wants to know any longer.</param>
    public async Task<UsageCount> CountAsync(string userId, DateOnly from, CancellationToken cancellationToken)
    {
        var count = new UsageCount(from);
        foreach (var kind in SessionPageRequest.AllKinds)
        {
            var request = new SessionPageRequest { UserId = userId, Kind = kind, Limit = PageSessions };
            while (true)
            {
                var page = await log.ListAsync(request, null, cancellationToken);
                foreach (var session in page.Items)
                {
                    if (session.LastActivityAt < count.Start)
                    {
                        // Those behind it were used even earlier.
                        page = page with { Next = null };
                        break;
                    }

                    try
                    {
                        if (count.Sessions >= MaxSessions || !await AddAsync(count, session, Owner.Of(userId), cancellationToken))
                        {
                            return count with { IsComplete = false };
                        }
                    }
                    catch (StoredDataException)
                    {
                        // What is behind a turn that can't be read is not counted; the other sessions are.
                        count = count with { IsComplete = false };
                    }
                }

                if (page.Next is null)
                {
                    break;
                }

                request = request with { After = page.Next };
            }
        }

        return count;
    }

    private async ValueTask<bool> AddAsync(UsageCount count, Session session, Owner owner, CancellationToken cancellationToken)
    {
        count.Sessions++;
        var request = new TurnPageRequest { Limit = PageTurns, MaxBytes = PageBytes, Descending = true, AllBranches = true };
        while (await log.ReadTurnsAsync(SessionRef.ByKey(session.Key), owner, request, cancellationToken) is { } page)
        {
            foreach (var turn in page.Turns)
            {
                if (turn.CreatedAt < count.Start)
                {
                    return true;
                }

                if (count.Turns >= MaxTurns || count.Bytes >= MaxBytes)
                {
                    return false;
                }

                count.Add(turn);
            }

            if (page.Next is not { } next)
            {
                return true;
            }

            request = request with { After = next };
        }

        // It has gone meanwhile.
        return true;
    }
}

/// <summary>What was counted.</summary>
internal sealed record UsageCount(DateOnly From)
{
    private readonly Dictionary<(DateOnly Day, string Agent), UsageOfDay> _days = [];

    /// <summary>When the first day begins.</summary>
    public DateTimeOffset Start { get; } = new(From, TimeOnly.MinValue, TimeSpan.Zero);

    /// <summary>Sessions that were looked at.</summary>
    public int Sessions { get; set; }

    /// <summary>Turns that were counted.</summary>
    public int Turns { get; private set; }

    /// <summary>Bytes of these.</summary>
    public long Bytes { get; private set; }

    /// <summary>Whether all of that time was counted; else the newest part of it, or what can be read.</summary>
    public bool IsComplete { get; init; } = true;

    /// <summary>By day and agent, oldest first.</summary>
    public IEnumerable<((DateOnly Day, string Agent) Key, UsageOfDay Usage)> Days => _days
        .OrderBy(entry => entry.Key.Day).ThenBy(entry => entry.Key.Agent, StringComparer.Ordinal).Select(entry => (entry.Key, entry.Value));

    /// <summary>Adds a turn.</summary>
    public void Add(Turn turn)
    {
        Turns++;
        Bytes += turn.Bytes;
        var key = (DateOnly.FromDateTime(turn.CreatedAt.UtcDateTime), turn.AgentType);
        var day = _days.GetValueOrDefault(key);
        _days[key] = new UsageOfDay(
            day.Turns + 1,
            day.Incomplete + (turn.Status == TurnStatus.Incomplete ? 1 : 0),
            day.InputTokens + (turn.Usage?.InputTokens ?? 0),
            day.OutputTokens + (turn.Usage?.OutputTokens ?? 0),
            day.Uncounted + (turn.Usage is null ? 1 : 0),
            day.ExecutionTime + turn.ExecutionTime);
    }
}

/// <summary>One agent's turns of one day.</summary>
/// <param name="Turns">How many.</param>
/// <param name="Incomplete">Of them, those whose answer stopped short.</param>
/// <param name="InputTokens">Read by the model.</param>
/// <param name="OutputTokens">Written by the model.</param>
/// <param name="Uncounted">Turns whose provider reported no tokens.</param>
/// <param name="ExecutionTime">How long the agent took for them.</param>
internal readonly record struct UsageOfDay(
    int Turns, int Incomplete, long InputTokens, long OutputTokens, int Uncounted, TimeSpan ExecutionTime);
