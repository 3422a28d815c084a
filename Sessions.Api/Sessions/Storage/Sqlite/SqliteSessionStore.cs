using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Sessions in one SQLite file on a local disk. What was answered is on the disk. docs/sqlite.md tells how to run it.</summary>
/// <remarks>
/// Changes go through the one <see cref="SqliteWriter"/>, many to a transaction; reads go past it on connections of their own. Several processes
/// may share the file: nothing here relies on being alone with it.
/// </remarks>
internal sealed partial class SqliteSessionStore : ISessionStore, IAsyncDisposable
{
    private const int ExpiredPerStep = 100;
    private const int ProbeBytes = 64 * 1024;

    private readonly TimeProvider _time;
    private readonly SessionMetrics _metrics;
    private readonly SqlitePlace _place;
    private readonly SqliteReaders _readers;

    public SqliteSessionStore(SqliteFile file, SessionSettings options, TimeProvider time, SessionMetrics metrics, ILogger<SqliteSessionStore> logger)
    {
        _time = time;
        _metrics = metrics;
        _place = new SqlitePlace(file.Path, "The database file that sessions are kept in");
        _readers = new SqliteReaders(file, _place);
        Writer = new SqliteWriter(file, _place, options, time, logger);
        _place.OnLost = () => _ = TellWriterAsync();
    }

    /// <summary>The one that writes.</summary>
    internal SqliteWriter Writer { get; }

    /// <summary>
    /// Told the ids of sessions that were deleted, erased or evicted, before whoever removed them is answered. Sessions that expire are not told of: everybody
    /// knows when.
    /// </summary>
    internal Func<IReadOnlyCollection<string>, ValueTask>? OnRemoved { get; set; }

    private long Now => _time.GetUtcNow().ToMicroseconds();

    public async ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken)
    {
        var (created, tally) = await Writer.RunAsync(tables =>
        {
            var now = tables.Now;
            var tally = default(SqliteTally);
            return tables.IsLive(session.Id, now) ? (null, tally) : (tables.Get(tables.Add(session, now, version: 1, ref tally)), tally);
        }, cancellationToken);
        await CountAsync(created is null ? null : session.CreatedFrom, tally);
        return created;
    }

    public ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        var session = _readers.Read(link => Find(link, sessionId, out _));
        return new(session is not null && owner.MayHave(session.UserId) ? session : null);
    }

    public async ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        var deleted = await Writer.RunAsync(tables =>
        {
            if (tables.Find(sessionId, owner, tables.Now, out var key) is null)
            {
                return false;
            }

            tables.Remove(key);
            return true;
        }, cancellationToken);
        await TellAsync(deleted ? [sessionId] : []);
        return deleted;
    }

    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken) => new(_readers.Read(link =>
    {
        var scan = request.Filter is null ? request.Limit : SessionPageRequest.ScanLimit;
        var after = request.After ?? new PageCursor(request.Ascending ? long.MinValue : long.MaxValue, "");
        List<Session> items = [];
        var last = default(PageCursor);
        using var rows = link[request.Ascending ? SqliteSql.ListAscending : SqliteSql.ListDescending]
            .Bind(userId).Bind(after.Position).Bind(after.Id).Bind(Now).Bind(scan + 1L).Read();
        for (var seen = 0; rows.Next(); seen++)
        {
            if (seen == scan || items.Count == request.Limit)
            {
                return new Page<Session>(items, last);
            }

            last = rows.SessionCursor();
            var session = rows.ToSession();
            if (request.Filter?.Invoke(session) ?? true)
            {
                items.Add(session);
            }
        }

        return new Page<Session>(items, null);
    }));

    public ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        new(ReadHistory(sessionId, owner, request, null).Page);

    public async ValueTask<MetadataReplacement> ReplaceMetadataAsync(
        string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken) =>
        await Writer.RunAsync(tables =>
        {
            if (tables.Find(sessionId, owner, tables.Now, out var key) is not { } session)
            {
                return default;
            }

            if (session.Version != expectedVersion)
            {
                return new MetadataReplacement(session, Replaced: false);
            }

            tables.Link[SqliteSql.ReplaceMetadata].Bind(metadata.Span).Bind(key).Run();
            return new MetadataReplacement(tables.Get(key), Replaced: true);
        }, cancellationToken);

    public async ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        await Writer.RunAsync(tables => tables.Reserve(key, owner, sessionId, tables.Now), cancellationToken);

    public async ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken)
    {
        var (erasure, ids) = await Writer.RunAsync(tables => tables.UnlinkUser(userId, tables.Now), cancellationToken);

        // From here on it is done to the end, also when the client has gone: gone for clients, and now from the disk.
        await TellAsync(ids);
        while (await Writer.RunAsync(tables => tables.RemoveUnlinked(), CancellationToken.None))
        {
        }

        if (!await Writer.RunAloneAsync(tables => SqliteCheckpoints.Truncate(tables.Link), CancellationToken.None))
        {
            throw new StoreUnavailableException("Everything is removed, but another process still reads what was there before; ask again to have it off the disk.", TimeSpan.FromSeconds(10));
        }

        return erasure;
    }

    public async ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        var total = 0;
        var more = true;
        while (more)
        {
            (var removed, more) = await Writer.RunAsync(tables => tables.RemoveExpired(ExpiredPerStep), cancellationToken);
            _metrics.Expired(removed);
            total += removed;
        }

        while (await Writer.RunAsync(tables => tables.RemoveUnlinked(), cancellationToken))
        {
        }

        while (await Writer.RunAsync(tables => tables.GiveBackSpace(), cancellationToken))
        {
        }

        return total;
    }

    public ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken) => new(_readers.Read(link =>
    {
        using var rows = link[SqliteSql.CountActive].Bind(Now).Read();
        rows.Next();
        return new StoreStatistics(rows.Long(0), 0);
    }));

    public async ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (Writer.Trouble is not null)
            {
                // As much as a turn may need: with less, health would come back before turns do.
                var probe = await Writer.RunAsync(tables => tables.Probe(ProbeBytes), cancellationToken);
                await Writer.RunAsync(tables => tables.Link[SqliteSql.DeleteSession].Bind(probe).Run(), cancellationToken);
            }

            _readers.Read(link =>
            {
                using var rows = link[SqliteSql.SessionByKey].Bind(long.MaxValue).Read();
                return rows.Next();
            });
            _place.Check();
            return HealthCheckResult.Healthy("Sessions are kept in a SQLite file.");
        }
        catch (StoreUnavailableException e)
        {
            return HealthCheckResult.Unhealthy(e.Message);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return HealthCheckResult.Unhealthy("The database did not do what it was asked to.", e);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _readers.Dispose();
        await Writer.DisposeAsync();
        _place.Dispose();
    }

    // It saves what it can; and has no other reason to look, as turns are refused where they start.
    private async Task TellWriterAsync()
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

    private Session? Find(SqliteLink link, string id, out long key)
    {
        using var rows = link[SqliteSql.FindSession].Bind(id).Bind(Now).Read();
        if (!rows.Next())
        {
            key = 0;
            return null;
        }

        key = rows.SessionKey();
        return rows.ToSession();
    }

    private async ValueTask CountAsync(SessionOrigin? created, SqliteTally tally)
    {
        if (created is { } origin)
        {
            _metrics.Created(origin);
        }

        _metrics.Expired(tally.Expired);
        _metrics.Evicted(tally.Evicted?.Count ?? 0);
        await TellAsync(tally.Evicted ?? []);
    }

    private ValueTask TellAsync(IReadOnlyCollection<string> removed) => removed.Count > 0 && OnRemoved is { } tell ? tell(removed) : default;
}
