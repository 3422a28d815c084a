using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>
/// A server that is sent generated requests by several clients at once, and checked after each and in between. Which requests these are is
/// settled by the seed alone; how they meet is not.
/// </summary>
internal sealed partial class FuzzRun : IAsyncDisposable
{
    /// <summary>After this nothing of what was there is left.</summary>
    public static readonly TimeSpan Lifetime = TimeSpan.FromHours(25);

    /// <summary>The time at which a run begins, on its server's clock.</summary>
    public static readonly DateTimeOffset Began = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private const int Clients = 4;
    private const int MaxFailures = 5;
    private const int MaxTries = 3;

    // For one answer, on a machine that is busy with other things: what takes longer hangs.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    // As answers that the store is away say.
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(1);

    /// <summary>What settles the requests.</summary>
    public static readonly string Seed = Environment.GetEnvironmentVariable("SESSIONS_FUZZ_SEED")
        ?? PCG.ThreadPCG.Next64().ToString("x", CultureInfo.InvariantCulture);

    private readonly SessionsServer _server;
    private readonly Gen<FuzzRequest> _requests;
    private readonly bool _mayBeFull;
    private readonly bool _mayBeAway;
    private readonly ConcurrentQueue<string> _failures = new();
    private readonly ConcurrentDictionary<int, int> _statuses = new();
    private byte[]? _stream;
    private int _next;

    private FuzzRun(SessionsServer server, Gen<FuzzRequest> requests, bool mayBeFull, bool mayBeAway) =>
        (_server, _requests, _mayBeFull, _mayBeAway) = (server, requests, mayBeFull, mayBeAway);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>How many requests a run has: <c>SESSIONS_FUZZ_REQUESTS</c>, or <paramref name="usual"/>.</summary>
    public static int Length(int usual) =>
        int.TryParse(Environment.GetEnvironmentVariable("SESSIONS_FUZZ_REQUESTS"), CultureInfo.InvariantCulture, out var requests)
            ? requests
            : usual;

    public static Task<FuzzRun> StartAsync(params IEnumerable<(string Key, string Value)> settings) =>
        StartAsync(requests => requests, mayBeFull: false, settings);

    /// <summary>One that fills the store up to its limits.</summary>
    public static Task<FuzzRun> StartNearLimitsAsync(params IEnumerable<(string Key, string Value)> settings) =>
        StartAsync(requests => Gen.Frequency((1, requests), (1, FuzzSizes.Requests)), mayBeFull: true,
            [.. FuzzSizes.Settings, .. settings]);

    private static async Task<FuzzRun> StartAsync(
        Func<Gen<FuzzRequest>, Gen<FuzzRequest>> requests, bool mayBeFull, IEnumerable<(string Key, string Value)> settings)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"SESSIONS_FUZZ_SEED={Seed}");
        var server = SessionsServer.Start(settings);
        server.Time.SetUtcNow(Began);

        // A process of its own may take too long, on a machine that is busy.
        var mayBeAway = settings.Any(setting => setting is ("sessions:storage_type", "redis" or "postgres"));
        return new FuzzRun(server, requests(FuzzRequests.All((await server.GetAsync("/openapi/v1.json")).Json)), mayBeFull, mayBeAway);
    }

    /// <summary>Sends the next requests, and checks every answer, and then all that is left behind.</summary>
    public async Task SendAsync(int requests)
    {
        var canary = await PutCanaryAsync();
        var end = _next + requests;
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(_ => Task.Run(() => ClientAsync(end), Cancel)));
        _next = end;
        Assert.True(_failures.IsEmpty, $"SESSIONS_FUZZ_SEED={Seed}\n\n{string.Join("\n\n", _failures)}");

        // Proper requests were among them, and were done.
        Assert.All([200, 201, 404, 422], status => Assert.True(_statuses.ContainsKey(status), $"No answer had the status {status}."));
        Assert.Equal(canary, await ReadCanaryAsync());
        await CheckStoreAsync();
    }

    /// <summary>How many answers had a status.</summary>
    public int Answers(int status) => _statuses.GetValueOrDefault(status);

    /// <summary>Lets everything expire and go.</summary>
    public async Task ClearAsync()
    {
        _server.Time.Advance(Lifetime);
        Assert.Equal(0, (int)(await _server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
        Assert.Equal(200, (await _server.PostAsync("/sessions/cleanup")).Status);
        Assert.Equal(0, (int)(await _server.GetAsync("/sessions/stats")).Json["active_sessions_memory"]!);
    }

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    private async Task ClientAsync(int end)
    {
        RawConnection? connection = null;
        try
        {
            while (Interlocked.Increment(ref _next) - 1 is var index && index < end && _failures.Count < MaxFailures)
            {
                var request = _requests.Generate(new PCG((uint)index, Convert.ToUInt64(Seed, 16)), null, out _);
                for (var tries = 1; ; tries++)
                {
                    connection ??= await RawConnection.OpenAsync(_server.Client.BaseAddress!.Port, Cancel);
                    var wrong = await TryAsync(connection, request);
                    if (wrong is not null || connection.Closed || request.Broken)
                    {
                        connection.Dispose();
                        connection = null;
                    }

                    if (_mayBeAway && tries < MaxTries && wrong?.Contains("\"storage_unavailable\"", StringComparison.Ordinal) == true)
                    {
                        await Task.Delay(RetryAfter, Cancel);
                        continue;
                    }

                    if (wrong is not null)
                    {
                        _failures.Enqueue($"Request {index}: {wrong}\n--- sent:\n{request}\n---");
                    }

                    break;
                }
            }
        }
        finally
        {
            connection?.Dispose();
        }
    }

    private async Task<string?> TryAsync(RawConnection connection, FuzzRequest request)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limited.CancelAfter(Patience);
        try
        {
            PutStream(request.Bytes);
            var answers = await connection.SendAsync(request, limited.Token);
            foreach (var answer in answers)
            {
                _statuses.AddOrUpdate(answer.Status, 1, (_, count) => count + 1);
                if (request.Streams && answer is { Status: 200, Body.Length: > 0 })
                {
                    // "id: …:0"
                    Volatile.Write(ref _stream, answer.Body[4..(4 + FuzzRequests.LiveStream.Length)]);
                }
            }

            return AnswerRules.Check(request, answers, _mayBeFull);
        }
        catch (OperationCanceledException) when (!Cancel.IsCancellationRequested)
        {
            return $"no answer within {Patience.TotalSeconds} s";
        }
        catch (EndOfStreamException e)
        {
            return request.Broken ? null : e.Message;
        }
        catch (InvalidDataException e)
        {
            return e.Message;
        }
    }

    // Which streams there are can't be known before.
    private void PutStream(byte[] bytes)
    {
        if (Volatile.Read(ref _stream) is { } stream)
        {
            for (int at; (at = bytes.AsSpan().IndexOf(Encoding.ASCII.GetBytes(FuzzRequests.LiveStream))) >= 0;)
            {
                stream.CopyTo(bytes, at);
            }
        }
    }

    private async Task<string> PutCanaryAsync()
    {
        await _server.QueryAsync("Sing.", FuzzValues.Canary, FuzzValues.Canary);
        await _server.QueryAsync("Sing again.", FuzzValues.Canary, FuzzValues.Canary);
        return await ReadCanaryAsync();
    }

    private async Task<string> ReadCanaryAsync() =>
        $"{(await _server.GetAsync($"/sessions/{FuzzValues.Canary}")).Text}\n"
        + $"{(await _server.GetAsync($"/sessions/{FuzzValues.Canary}/history")).Text}\n"
        + $"{(await _server.GetAsync($"/users/{FuzzValues.Canary}/sessions")).Text}";

    // What is counted, listed and kept is the same, every history is whole, and all of it has the sizes that it should have.
    private async Task CheckStoreAsync()
    {
        List<(Session Head, List<Turn> Turns)> stored = [];
        await foreach (var entry in _server.Get<ISessionStore>().ExportAsync(null, Cancel))
        {
            if (entry.Session is { } next)
            {
                stored.Add((next.Session, []));
            }
            else
            {
                stored[^1].Turns.Add(entry.Turn!.Turn);
            }
        }

        foreach (var (head, turns) in stored)
        {
            Assert.Equal(Enumerable.Range(1, head.TurnCount), turns.Select(turn => turn.Number));
            FuzzSizes.Check(head, turns.Sum(turn => turn.Bytes));
        }

        var limits = _server.Get<LimitSettings>();
        long SizeOf(Func<Session, bool> which) =>
            stored.Where(session => which(session.Head)).Sum(session => StorePolicy.SizeOf(session.Head.Bytes, session.Turns.Count));
        var stats = (await _server.GetAsync("/sessions/stats")).Json;
        FuzzSizes.Check(limits, (string?)stats["storage_type"] == "memory", SizeOf(head => head.UserId is null), SizeOf(_ => true));
        Assert.Equal(stored.Count, (int)stats["active_sessions"]!);
        foreach (var user in stored.Where(session => session.Head.UserId is not null).GroupBy(session => session.Head.UserId!))
        {
            Assert.InRange(user.Count(), 1, 10);
            var listed = await FuzzSizes.ReadPagesAsync(_server, $"/users/{Uri.EscapeDataString(user.Key)}/sessions", "sessions",
                limits.PageBytes, session => [session["metadata"]?["last_query"]]);
            Assert.Equal(user.Select(session => session.Head.Id).Order(), listed.Select(session => (string)session["session_id"]!).Order());
        }

        foreach (var (head, turns) in stored.Where(session => Met.IsMatch(session.Head.Id)))
        {
            var told = await FuzzSizes.ReadPagesAsync(
                _server, $"/sessions/{head.Id}/history", "turns", limits.PageBytes, turn => [turn["query"], turn["response"]]);
            Assert.All(told,
                turn => Assert.Equal((string?)turn["query"], turns[(int)turn["turn"]! - 1].Input.TextOf(ItemSide.Input)?.ToString()));
        }
    }

    // Those that are met again and again.
    [GeneratedRegex(@"^s\d+$")]
    private static partial Regex Met { get; }

    public override string ToString() => new StringBuilder()
        .AppendJoin(", ", _statuses.OrderBy(status => status.Key).Select(status => $"{status.Key}: {status.Value}")).ToString();
}
