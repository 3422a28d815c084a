using System.Diagnostics;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>Another process on the same file, which does what it is told, line by line, and can be killed. This assembly is its
/// program.</summary>
public sealed class SqliteProcess : IDisposable
{
    private const string PathVariable = "SESSIONS_TESTS_SQLITE";
    private const string AnswerMark = "answer:";

    private readonly Process _process;

    private SqliteProcess(Process process) => _process = process;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    internal static async Task<SqliteProcess> StartAsync(string path)
    {
        var start = new ProcessStartInfo("dotnet", ["exec", typeof(SqliteProcess).Assembly.Location, "-explicit", "only", "-method",
            $"{typeof(Program).FullName}.{nameof(Program.Main)}"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        start.Environment[PathVariable] = path;
        var process = new SqliteProcess(Process.Start(start)!);
        Assert.Equal("ready", await process.ReadAsync());
        return process;
    }

    /// <summary>Asks, and waits for the answer.</summary>
    internal async Task<string> AskAsync(string command)
    {
        await TellAsync(command);
        return await ReadAsync();
    }

    internal async Task TellAsync(string command)
    {
        await _process.StandardInput.WriteLineAsync(command.AsMemory(), Cancel);
        await _process.StandardInput.FlushAsync(Cancel);
    }

    /// <summary>Reads the next answer; "ended" where there is none.</summary>
    internal async Task<string> ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync(Cancel) is { } line)
        {
            // The runner may have left a colour code at the start of the line.
            if (line.IndexOf(AnswerMark, StringComparison.Ordinal) is var start and >= 0)
            {
                return line[(start + AnswerMark.Length)..];
            }
        }

        return "ended";
    }

    internal void Kill()
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

    /// <summary>Not a test, but what runs in the process.</summary>
    public sealed class Program
    {
        [Fact(Explicit = true)]
        public async Task Main()
        {
            var path = Environment.GetEnvironmentVariable(PathVariable);
            Assert.NotNull(path);
            await using var output = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
            using var input = new StreamReader(Console.OpenStandardInput());
            await output.WriteLineAsync(AnswerMark + "ready");
            SqliteSessionStore? store = null;
            while (await input.ReadLineAsync(Cancel) is { } line)
            {
                var words = line.Split(' ');
                try
                {
                    await output.WriteLineAsync(AnswerMark + words[0] switch
                    {
                        "open" => (store ??= SqliteTests.Open(path)) is null ? "" : "opened",
                        "open-many" =>
                            $"{await OpenManyAsync(path, int.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture))}",
                        "turn" => $"{await SqliteTests.TurnAsync(store!, words[1], "user", words[2])}",
                        "count" => $"{(await SqliteTests.GetAsync(store!, words[1]))?.TurnCount}",
                        "erase" => $"{await store!.EraseAsync(words[1], Cancel)}",
                        "delete" => $"{await store!.DeleteAsync(SessionRef.ById(words[1]), Owner.Anyone, Cancel)}",
                        "turns" => await TurnsAsync(store!, words[1], output),
                        _ => "what?",
                    });
                }
                catch (Exception e)
                {
                    await output.WriteLineAsync($"{AnswerMark}{e.GetType().Name}: {e.Message.ReplaceLineEndings(" ")}");
                }
            }
        }

        // Turns without end on some sessions, each answered: until it is killed.
        private static async Task<string> TurnsAsync(SqliteSessionStore store, string prefix, StreamWriter output)
        {
            var gate = new SemaphoreSlim(1);
            await Task.WhenAll(Enumerable.Range(0, 8).Select(client => Task.Run(
                async () =>
                {
                    for (var i = 0; ; i++)
                    {
                        var (session, query) = ($"s{client}", $"{prefix}-{client}-{i}");
                        if (await SqliteTests.TurnAsync(store, session, $"u{client}", query) == WriteStatus.Written)
                        {
                            await gate.WaitAsync(Cancel);
                            await output.WriteLineAsync($"{AnswerMark}{session} {query}");
                            gate.Release();
                        }
                    }
                }, Cancel)));
            return "ended";
        }

        private static async Task<int> OpenManyAsync(string path, int count)
        {
            var opened = await Task.WhenAll(Enumerable.Range(0, count).Select(i => Task.Factory.StartNew(async () =>
            {
                await using var store = SqliteTests.Open(path);
                return await SqliteTests.CreateAsync(store, $"{Environment.ProcessId}-{i}");
            }, Cancel, TaskCreationOptions.LongRunning, TaskScheduler.Default).Unwrap()));
            return opened.Length;
        }
    }
}
