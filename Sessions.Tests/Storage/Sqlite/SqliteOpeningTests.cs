using System.Diagnostics;
using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>Nobody ever hears that the database is locked: neither those who open it at once, nor those who write to it from several processes.</summary>
public sealed class SqliteOpeningTests : IDisposable
{
    private const int Processes = 8;
    private const int OpenedByEach = 20;
    private const string PathVariable = "SESSIONS_TESTS_OPEN";

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact(Timeout = 120_000)]
    public async Task A_new_file_can_be_opened_160_times_at_once_from_several_processes()
    {
        var path = _folder["new.db"];
        var processes = Enumerable.Range(0, Processes).Select(_ => StartOpener(path)).ToList();
        try
        {
            // All are ready; now all at once.
            foreach (var process in processes)
            {
                Assert.Equal("ready", await ReadAsync(process, "ready"));
            }

            foreach (var process in processes)
            {
                await process.StandardInput.WriteLineAsync("go");
                await process.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
            }

            var opened = await Task.WhenAll(processes.Select(process => ReadAsync(process, "opened")));
            Assert.All(opened, line => Assert.True(line == $"opened {OpenedByEach}", line));
        }
        finally
        {
            foreach (var process in processes)
            {
                process.Kill();
                process.Dispose();
            }
        }

        await using var store = SqliteTests.Open(path);
        Assert.Equal(Processes * OpenedByEach, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
    }

    /// <summary>Not a test, but what the test above runs in each of its processes.</summary>
    [Fact(Explicit = true)]
    public async Task Opener()
    {
        var path = Environment.GetEnvironmentVariable(PathVariable);
        Assert.NotNull(path);
        await using var output = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
        await output.WriteLineAsync("ready");
        using var input = new StreamReader(Console.OpenStandardInput());
        await input.ReadLineAsync(TestContext.Current.CancellationToken);
        try
        {
            var opened = await Task.WhenAll(Enumerable.Range(0, OpenedByEach).Select(i => Task.Factory.StartNew(async () =>
            {
                await using var store = SqliteTests.Open(path);
                return await store.CreateAsync(TestStore.New($"{Environment.ProcessId}-{i}"), TestContext.Current.CancellationToken);
            }, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap()));
            await output.WriteLineAsync($"opened {opened.Count(session => session is not null)}");
        }
        catch (Exception e)
        {
            await output.WriteLineAsync($"opened not: {e.Message}");
        }
    }

    [Fact]
    public async Task Two_stores_on_one_file_keep_the_order_of_turns()
    {
        const int Each = 100;
        var path = _folder["two.db"];
        await using var one = SqliteTests.Open(path);
        await using var two = SqliteTests.Open(path);

        async Task<int> RunAsync(SqliteSessionStore store)
        {
            var stale = 0;
            for (var committed = 0; committed < Each;)
            {
                switch (await SqliteTests.TurnAsync(store, "shared", "user"))
                {
                    case CommitStatus.Committed:
                        committed++;
                        break;
                    case CommitStatus.Stale:
                        stale++;
                        break;
                    default:
                        Assert.Fail("Nobody removes the session.");
                        break;
                }
            }

            return stale;
        }

        await Task.WhenAll(Task.Run(() => RunAsync(one), TestContext.Current.CancellationToken), Task.Run(() => RunAsync(two), TestContext.Current.CancellationToken));

        var history = await two.ReadHistoryAsync("shared", Owner.Anyone, new TurnPageRequest(1000, null, Descending: false), TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(1, 2 * Each), history!.Items.Select(turn => turn.Number));
        Assert.Equal(2 * Each, (await one.GetAsync("shared", Owner.Anyone, TestContext.Current.CancellationToken))!.TurnCount);
    }

    private static Process StartOpener(string path)
    {
        var assembly = typeof(SqliteOpeningTests).Assembly.Location;
        var start = new ProcessStartInfo("dotnet", ["exec", assembly, "-explicit", "only", "-method", $"{typeof(SqliteOpeningTests).FullName}.{nameof(Opener)}"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        start.Environment[PathVariable] = path;
        return Process.Start(start)!;
    }

    private static async Task<string> ReadAsync(Process process, string word)
    {
        while (await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
        {
            // The runner may have left a colour code at the start of the line.
            if (line.IndexOf(word, StringComparison.Ordinal) is var start and >= 0)
            {
                return line[start..];
            }
        }

        return "ended";
    }
}
