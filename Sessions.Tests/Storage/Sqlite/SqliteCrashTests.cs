using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Http.Json;
using System.Text.Json;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>A real server on a real file, killed while it works: what it answered is there.</summary>
public sealed class SqliteCrashTests : IDisposable
{
    private const int Rounds = 20;
    private const int Clients = 16;
    private const int AnsweredPerRound = 150;
    private const int RetryingClients = 12;
    private const int Kills = 5;
    private const int AnsweredPerKill = 200;

    private readonly TestFolder _folder = new();

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Every_answered_turn_survives_a_kill()
    {
        // Session → the queries that were answered, in order; and the one whose answer was lost, which may be there or not.
        var answered = new ConcurrentDictionary<string, List<string>>();
        for (var round = 0; round < Rounds; round++)
        {
            using var server = await StartAsync(Db);
            using var http = new HttpClient { BaseAddress = server.Address };

            // The sessions of all rounds before.
            await CheckAsync(http, answered);

            var count = 0;
            var enough = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var clients = Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
            {
                // Half of them go on with a session from the round before.
                var session = client % 2 == 0 ? $"c{client}" : $"c{client}-r{round}";
                var queries = answered.GetOrAdd(session, _ => []);
                for (var i = 0; ; i++)
                {
                    var query = $"{session} r{round} q{i}";
                    try
                    {
                        using var response = await http.PostAsJsonAsync("/query",
                            new { query, thread_id = session, user_id = $"u{client}" }, TestContext.Current.CancellationToken);
                        var body = await response.Content.ReadFromJsonAsync<JsonElement>(TestContext.Current.CancellationToken);
                        Assert.True(response.IsSuccessStatusCode, body.ToString());
                        queries.Add(query);
                        if (Interlocked.Increment(ref count) == AnsweredPerRound)
                        {
                            enough.SetResult();
                        }
                    }
                    catch (Exception e) when (e is HttpRequestException or IOException or JsonException)
                    {
                        // The kill came first: nobody was told.
                        return;
                    }
                }
            }, TestContext.Current.CancellationToken)).ToList();

            // Killed while all of them are at work.
            await Task.WhenAny([enough.Task, .. clients]);
            Assert.True(enough.Task.IsCompleted, "The clients ended before the server was killed.");
            server.Kill();
            await Task.WhenAll(clients);
            Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
        }

        using var last = await StartAsync(Db);
        using var client = new HttpClient { BaseAddress = last.Address };
        await CheckAsync(client, answered);
        Assert.InRange(answered.Sum(session => session.Value.Count), Rounds * AnsweredPerRound, int.MaxValue);
        Assert.Equal("0", SqliteTests.Ask(Db,
            "SELECT count(*) FROM sessions s WHERE turn_count <> (SELECT count(*) FROM turns t WHERE t.session = s.key)"));
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM turns WHERE session NOT IN (SELECT key FROM sessions)"));
    }

    [Fact]
    public async Task Turns_that_are_retried_with_their_keys_across_kills_are_there_exactly_once()
    {
        // Session → its answered queries by turn. The even clients share sessions in pairs; the odd ones start a session with each query.
        var answered = new ConcurrentDictionary<string, ConcurrentDictionary<int, string>>();
        var server = await StartAsync(Db);
        try
        {
            var count = 0;
            var replayed = 0;
            using var enough = new CancellationTokenSource();
            using var http = new HttpClient();
            var clients = Enumerable.Range(0, RetryingClients).Select(client => Task.Run(async () =>
            {
                for (var i = 0; !enough.IsCancellationRequested; i++)
                {
                    var query = $"c{client} q{i}";
                    var thread = client % 2 == 0 ? $"shared{client / 4}" : null;
                    while (true)
                    {
                        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(Volatile.Read(ref server).Address, "/query"))
                        {
                            Content = JsonContent.Create(new { query, thread_id = thread, user_id = $"u{client / 4}" }),
                            Headers = { { "Idempotency-Key", $"c{client}-{i}" } },
                        };
                        try
                        {
                            using var response = await http.SendAsync(request, TestContext.Current.CancellationToken);
                            var body = await response.Content.ReadFromJsonAsync<JsonElement>(TestContext.Current.CancellationToken);
                            Assert.True(response.IsSuccessStatusCode, body.ToString());
                            var metadata = body.GetProperty("metadata");
                            Assert.True(answered.GetOrAdd(metadata.GetProperty("thread_id").GetString()!, _ => [])
                                .TryAdd(metadata.GetProperty("turn").GetInt32(), query), "Two answers are the same turn.");
                            Interlocked.Add(ref replayed, response.Headers.Contains("Idempotency-Replayed") ? 1 : 0);
                            Interlocked.Increment(ref count);
                            break;
                        }
                        catch (Exception e) when (e is HttpRequestException or IOException or JsonException)
                        {
                            // Killed: the same again, until a server answers.
                            await Task.Delay(10, TestContext.Current.CancellationToken);
                        }
                    }
                }
            }, TestContext.Current.CancellationToken)).ToList();

            for (var kills = 1; kills <= Kills; kills++)
            {
                var target = Volatile.Read(ref count) + AnsweredPerKill;
                await ServiceProcess.UntilAsync(() => Volatile.Read(ref count) >= target || clients.Exists(client => client.IsCompleted));
                Assert.DoesNotContain(clients, client => client.IsCompleted);
                var killed = Stopwatch.GetTimestamp();
                server.Kill();
                server.Dispose();
                Volatile.Write(ref server, await StartAsync(Db));
                TestContext.Current.TestOutputHelper?.WriteLine(
                    $"answers again {Stopwatch.GetElapsedTime(killed).TotalMilliseconds:0} ms after the kill");
            }

            await enough.CancelAsync();
            await Task.WhenAll(clients);
            TestContext.Current.TestOutputHelper?.WriteLine($"{count} answers, {replayed} of them replayed");
            server.Kill();
        }
        finally
        {
            server.Dispose();
        }

        // Neither more nor less than what was answered, each in its place.
        using var last = await StartAsync(Db);
        using var reader = new HttpClient { BaseAddress = last.Address };
        foreach (var (session, turns) in answered)
        {
            Assert.Equal(Enumerable.Range(1, turns.Count), turns.Keys.Order());
            await CheckAsync(reader,
                new([new(session, [.. turns.OrderBy(turn => turn.Key).Select(turn => turn.Value)])]), mayHaveMore: false);
        }

        Assert.Equal($"{answered.Sum(session => session.Value.Count)}", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
        Assert.Equal($"{answered.Count}", SqliteTests.Ask(Db, "SELECT count(*) FROM sessions WHERE id IS NOT NULL"));
        Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
    }

    private static async Task CheckAsync(HttpClient http, ConcurrentDictionary<string, List<string>> answered, bool mayHaveMore = true)
    {
        foreach (var (session, queries) in answered)
        {
            List<string> stored = [];
            for (string? next = ""; next is not null;)
            {
                var page = await http.GetFromJsonAsync<JsonElement>($"/sessions/{session}/history?limit=100{next}",
                    TestContext.Current.CancellationToken);
                foreach (var turn in page.GetProperty("turns").EnumerateArray())
                {
                    Assert.Equal(stored.Count + 1, turn.GetProperty("turn").GetInt32());
                    Assert.Contains("\"" + turn.GetProperty("query").GetString() + "\"", turn.GetProperty("response").GetString(),
                        StringComparison.Ordinal);
                    stored.Add(turn.GetProperty("query").GetString()!);
                }

                next = page.GetProperty("next").GetString() is { } cursor ? $"&after={cursor}" : null;
            }

            // Each answered one once, in order. What is more was on the disk when its answer was lost: one for each kill at the most.
            Assert.Equal(stored.Count, stored.Distinct().Count());
            if (!mayHaveMore)
            {
                Assert.Equal(queries, stored);
            }

            var unanswered = stored.Except(queries).ToList();
            Assert.Equal(queries, stored.Where(query => !unanswered.Contains(query)));
            Assert.Equal(unanswered.Count, unanswered.Select(query => query.Split(' ')[1]).Distinct().Count());
        }
    }

    private static async Task<Server> StartAsync(string path)
    {
        var port = FreePort.Find();
        var start = new ProcessStartInfo("dotnet",
            ["exec", typeof(ISessionStore).Assembly.Location, "--urls", $"http://127.0.0.1:{port}", "--Logging:LogLevel:Default=Warning"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["SESSIONS__STORAGE_TYPE"] = "sqlite";
        start.Environment["SESSIONS__DB_PATH"] = path;
        start.Environment["SESSIONS__MAX_SESSIONS_PER_USER"] = "0";
        var server = new Server(Process.Start(start)!, new Uri($"http://127.0.0.1:{port}"));
        try
        {
            using var http = new HttpClient { BaseAddress = server.Address, Timeout = TimeSpan.FromSeconds(5) };
            var deadline = Stopwatch.GetTimestamp() + (60 * Stopwatch.Frequency);
            while (true)
            {
                try
                {
                    using var response = await http.GetAsync(new Uri("/health", UriKind.Relative), TestContext.Current.CancellationToken);
                    response.EnsureSuccessStatusCode();
                    return server;
                }
                catch (Exception e) when (e is HttpRequestException or TaskCanceledException { InnerException: TimeoutException }
                    && Stopwatch.GetTimestamp() < deadline && !server.HasExited)
                {
                    await Task.Delay(20, TestContext.Current.CancellationToken);
                }
            }
        }
        catch
        {
            server.Dispose();
            throw;
        }
    }

    private sealed class Server : IDisposable
    {
        private readonly Process _process;

        public Server(Process process, Uri address)
        {
            _process = process;
            Address = address;

            // Read, or it would stop at a full pipe.
            process.OutputDataReceived += (_, _) => { };
            process.ErrorDataReceived += (_, _) => { };
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
        }

        public Uri Address { get; }

        public bool HasExited => _process.HasExited;

        public void Kill()
        {
            _process.Kill();
            _process.WaitForExit();
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                Kill();
            }

            _process.Dispose();
        }
    }
}
