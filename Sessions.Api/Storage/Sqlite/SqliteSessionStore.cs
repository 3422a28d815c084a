using System.Diagnostics;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>Sessions in one SQLite file on a local disk. What was answered is on the disk. docs/sqlite.md tells how to run it.</summary>
/// <remarks>
/// Changes go through the one <see cref="SqliteWriter"/>, many to a transaction; reads go past it on connections of their own. Several
/// processes may share the file: nothing here relies on being alone with it. There are no leases: the number of a turn decides at its
/// commit.
/// </remarks>
internal sealed partial class SqliteSessionStore : ISessionStore, IAsyncDisposable
{
    private const int ExpiredPerStep = 100;
    private const int ProbeBytes = 64 * 1024;

    // After a step of a clean-up beside others.
    private static readonly TimeSpan MaxPause = TimeSpan.FromMilliseconds(100);

    private static readonly TimeSpan CheckWait = TimeSpan.FromSeconds(1.5);
    private static readonly TimeSpan LockedForLong = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan EraserWait = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan RewriterWait = TimeSpan.FromSeconds(1);

    private readonly StorePolicy _policy;
    private readonly TimeProvider _time;
    private readonly SqliteFileGuard _guard;
    private readonly SqliteReadPool _readers;
    private readonly Lock _checkLock = new();
    private Task<HealthCheckResult>? _check;

    public SqliteSessionStore(SqliteFile file, StorePolicy policy, TimeProvider time, ILogger<SqliteSessionStore> logger)
    {
        _policy = policy;
        _time = time;
        _guard = new SqliteFileGuard(file.Path, "The database file that sessions are kept in");
        _readers = new SqliteReadPool(file, _guard, policy.Damage);
        Writer = new SqliteWriter(file, _guard, policy, time, logger);
        _guard.OnLost = () => _ = NotifyWriterAsync();
    }

    public StoreCapabilities Capabilities => new(IsDurable: true, HasLeases: false);

    /// <summary>The one that writes.</summary>
    internal SqliteWriter Writer { get; }

    private long Now => _time.GetUtcNow().ToMicroseconds();

    public ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken) =>
        ReadAsync(isConsistent: false, (SqliteDatabase db, ref List<long>? keyless) => List(db, request, ref keyless));

    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        var (deleted, removed) = await Writer.RunAsync(work =>
        {
            var now = work.Now;
            var found = work.Locate(session);
            if (found is { } foreign && foreign.ExpiresAt > now && !owner.MayHave(foreign.UserId))
            {
                return (false, null);
            }

            // Also where there is none yet: its first turn may be running.
            work.MarkDeleted(session, found?.Id ?? session.Id, owner, now);
            return found is { } mine && mine.ExpiresAt > now ? (true, work.Remove(mine.Row)) : (false, null);
        }, cancellationToken);
        if (removed is { } gone)
        {
            await PublishRemovedAsync([gone]);
        }

        return deleted;
    }

    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        var (erasure, removed) = await Writer.RunAsync(work =>
        {
            var now = work.Now;
            work.MarkErased(userId, now);
            return work.UnlinkUser(userId, now);
        }, cancellationToken);

        // From here on it is done to the end, also when the client has gone: gone for clients, and now from the disk.
        await PublishRemovedAsync(removed);
        while (await Writer.RunAsync(work => work.RemoveUnlinked(), CancellationToken.None))
        {
        }

        // Beside the writer: if somebody reads for long, only this caller waits.
        if (!await Writer.Checkpoints.TruncateAsync(EraserWait))
        {
            throw new StoreUnavailableException(
                "Everything is removed, but another process still reads what was there before; ask again to have it off the disk.",
                TimeSpan.FromSeconds(10));
        }

        return erasure;
    }

    public async ValueTask<int> SweepAsync(CancellationToken cancellationToken)
    {
        var total = 0;
        var more = true;
        while (more)
        {
            (var removed, more) = await StepAsync(work => work.RemoveExpired(ExpiredPerStep), cancellationToken);
            Forget(removed);
            if (removed.Count(session => session.IsCounted) is > 0 and var count)
            {
                _policy.Events.Expired(count);
                total += count;
            }
        }

        while (await StepAsync(work => work.RemoveUnlinked(), cancellationToken))
        {
        }

        while (await StepAsync(work => work.GiveBackSpace(), cancellationToken))
        {
        }

        return total;
    }

    // A step of what nobody waits for. Where others write, they have as much time to themselves behind it as it took.
    private async Task<T> StepAsync<T>(Func<SqliteUnitOfWork, T> step, CancellationToken cancellationToken)
    {
        var started = Stopwatch.GetTimestamp();
        var result = await Writer.RunAsync(step, cancellationToken);
        if (Writer.IsShared)
        {
            var taken = Stopwatch.GetElapsedTime(started);
            await Task.Delay(taken < MaxPause ? taken : MaxPause, cancellationToken);
        }

        return result;
    }

    public async ValueTask<KeyReservation> ReserveAsync(
        Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        await Writer.RunAsync(work => work.Reserve(key, owner, sessionId, work.Now), cancellationToken)
            ?? throw new DomainException(Error.StorageFull(SqliteUnitOfWork.UnownedLimit));

    public ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken) => new(_readers.Read(db =>
    {
        using var rows = db[SqliteSql.CountActive].Bind(Now).Read();
        rows.Next();
        return new StoreStatistics(rows.Long(0), 0);
    }));

    public async ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken)
    {
        // One at a time: what hangs, hangs once.
        Task<HealthCheckResult> check;
        lock (_checkLock)
        {
            check = _check is { IsCompleted: false } running ? running : _check = Task.Run(CheckWithoutBoundAsync, CancellationToken.None);
        }

        try
        {
            return await check.WaitAsync(CheckWait, cancellationToken);
        }
        catch (TimeoutException)
        {
            return HealthCheckResult.Unhealthy((Writer.Trouble ?? Busy()).Message);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _readers.Dispose();
        await Writer.DisposeAsync();
        _guard.Dispose();
    }

    private delegate T Reading<out T>(SqliteDatabase db, ref List<long>? keyless);

    // What is read of a time when sessions had no keys is read again, once they have some.
    private ValueTask<T> ReadAsync<T>(bool isConsistent, Reading<T> reading)
    {
        List<long>? keyless = null;
        var read = Read();
        return keyless is null ? new(read) : GiveKeysAsync();

        T Read() => isConsistent
            ? _readers.ReadConsistently(db => reading(db, ref keyless))
            : _readers.Read(db => reading(db, ref keyless));

        async ValueTask<T> GiveKeysAsync()
        {
            while (keyless is { } without)
            {
                await Writer.RunAsync(work => without.ConvertAll(work.GiveKey), CancellationToken.None);
                keyless = null;
                read = Read();
            }

            return read;
        }
    }

    private Page<Session> List(SqliteDatabase db, SessionPageRequest request, ref List<long>? keyless)
    {
        var after = request.After ?? new PageCursor(request.Ascending ? long.MinValue : long.MaxValue, "");
        List<Session> sessions = [];
        long bytes = 0;
        var last = default(PageCursor);
        using var rows = db[ListStatement(request)]
            .Bind(request.UserId).Bind(after.Position).Bind(after.Id).Bind(Now).Bind(request.Limit + 1L)
            .BindIf(request.Kind is not null, (long)(request.Kind ?? 0)).Read();
        for (var seen = 0; rows.Next(); seen++)
        {
            if (seen == request.Limit)
            {
                return new Page<Session>(sessions, last);
            }

            try
            {
                var session = rows.ToSession();
                bytes += session.Metadata.Length + (session.LastTurn?.Bytes ?? 0);
                if (sessions.Count > 0 && bytes > request.MaxBytes)
                {
                    return new Page<Session>(sessions, last);
                }

                sessions.Add(session);
                if (rows.IsKeyless())
                {
                    (keyless ??= []).Add(rows.Row());
                }
            }
            catch (StoredDataException e)
            {
                _policy.Damage.Report(e.What, e);
            }

            last = rows.SessionCursor();
        }

        return new Page<Session>(sessions, null);
    }

    private static string ListStatement(SessionPageRequest request) =>
        (request.UserId is null, request.Kind is null, request.Ascending) switch
        {
            (false, true, false) => SqliteSql.ListOfUserDescending,
            (false, true, true) => SqliteSql.ListOfUserAscending,
            (false, false, false) => SqliteSql.ListKindOfUserDescending,
            (false, false, true) => SqliteSql.ListKindOfUserAscending,
            (true, true, false) => SqliteSql.ListDescending,
            (true, true, true) => SqliteSql.ListAscending,
            (true, false, false) => SqliteSql.ListKindDescending,
            (true, false, true) => SqliteSql.ListKindAscending,
        };

    private async Task<HealthCheckResult> CheckWithoutBoundAsync()
    {
        try
        {
            if (Writer.Trouble is not null)
            {
                // As much as a turn may need: with less, health would come back before turns do.
                var probe = await Writer.RunAsync(work => work.Probe(ProbeBytes), CancellationToken.None);
                await Writer.RunAsync(work => work.Db[SqliteSql.DeleteSession].Bind(probe).Run(), CancellationToken.None);
            }

            _readers.Read(db =>
            {
                using var rows = db[SqliteSql.IsVisible].Bind(long.MaxValue).Bind(0).Read();
                return rows.Next();
            });
            _guard.Check();
            return Writer.WaitsForLock > LockedForLong
                ? HealthCheckResult.Unhealthy(Busy().Message)
                : HealthCheckResult.Healthy("Sessions are kept in a SQLite file.");
        }
        catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
        {
            return HealthCheckResult.Unhealthy(e.Message);
        }
        catch (Exception e)
        {
            return HealthCheckResult.Unhealthy("The database did not do what it was asked to.", e);
        }
    }

    private static StoreUnavailableException Busy() =>
        new("The database that sessions are kept in is busy with other processes.", TimeSpan.FromSeconds(1));

    // It saves what it can; and has no other reason to look, as turns are refused where they start.
    private async Task NotifyWriterAsync()
    {
        try
        {
            await Writer.RunAsync(_ => false, CancellationToken.None);
        }
        catch (StoreUnavailableException)
        {
            // As expected.
        }
    }

    private void Forget(IEnumerable<SqliteRemoved> removed)
    {
        foreach (var session in removed)
        {
            if (session.Id is { } id)
            {
                _policy.Damage.Forget(DamageReport.NameOf(id));
            }
        }
    }

    private async ValueTask PublishRemovedAsync(IReadOnlyCollection<SqliteRemoved> removed)
    {
        Forget(removed);
        if (removed.Where(session => session.Key is not null).Select(session => session.Key!.Value).ToList() is { Count: > 0 } keys)
        {
            await _policy.Events.Removed(keys);
        }
    }

    private async ValueTask PublishAsync(NewSession? created, SqliteEffects effects)
    {
        if (created is { Kind: not SessionKind.Chain })
        {
            _policy.Events.Created(created.CreatedFrom);
        }

        if (effects.Expired > 0)
        {
            _policy.Events.Expired(effects.Expired);
        }

        if (effects.Evicted > 0)
        {
            _policy.Events.Evicted(effects.Evicted);
        }

        if (effects.Keys is { } keys)
        {
            await _policy.Events.Removed(keys);
        }
    }
}
