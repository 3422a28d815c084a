using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>
/// A PostgreSQL of the tests' own, on a free port with a folder of its own, gone after them. Not as root: the server refuses that.
/// </summary>
internal sealed class PostgresServer : IAsyncDisposable
{
    private const string User = "postgres";

    private static readonly string? Programs = Directory.Exists("/usr/lib/postgresql")
        ? Directory.GetDirectories("/usr/lib/postgresql").Select(version => Path.Combine(version, "bin"))
            .Where(bin => File.Exists(Path.Combine(bin, "initdb"))).Max()
        : null;

    private readonly TestFolder _folder = new();
    private readonly string[] _settings;
    private Process? _process;

    private PostgresServer(int port, string[] settings) => (Port, _settings) = (port, settings);

    public int Port { get; private set; }

    public int Id => _process!.Id;

    /// <summary>Where to connect to. On a machine that is busy it may take long to be given a connection.</summary>
    public string ConnectionString =>
        $"Host=127.0.0.1;Port={Port};Username=sessions;Database=postgres;Timeout=60;Maximum Pool Size=20;Include Error Detail=true";

    /// <summary>Starts one, and waits until it answers.</summary>
    /// <param name="isSafe">Whether what it commits survives a crash of the machine, as in production.</param>
    /// <param name="settings">More settings.</param>
    public static async Task<PostgresServer> StartAsync(bool isSafe = false, params string[] settings)
    {
        if (Programs is null && Environment.GetEnvironmentVariable("CI") == "true")
        {
            throw new InvalidOperationException("CI needs postgresql.");
        }

        Assert.SkipWhen(Programs is null, "There is no PostgreSQL on this machine (/usr/lib/postgresql).");
        var server = new PostgresServer(FreePort.Find(), [.. isSafe ? [] : (string[])["fsync=off", "full_page_writes=off"], .. settings]);
        await server.InitializeAsync();

        // Somebody else may have taken the port meanwhile.
        for (var tries = 1; !await server.TryStartAsync(); tries++)
        {
            Assert.True(tries < 5, "postgres ended at once.");
            server.Port = FreePort.Find();
        }

        return server;
    }

    /// <summary>
    /// Starts one that follows this one. From then on this one commits nothing that the other has not on its disk, too.
    /// </summary>
    public async Task<PostgresServer> StartStandbyAsync()
    {
        var standby = new PostgresServer(FreePort.Find(), _settings);
        GiveToUser(standby._folder.Path);
        await RunToolAsync("pg_basebackup", "-h", "127.0.0.1", "-p", $"{Port}", "-U", "sessions", "-D", standby.Data, "-R", "-X", "stream",
            "-c", "fast", "--no-sync");
        await standby.RestartAsync();
        await AskAsync("ALTER SYSTEM SET synchronous_standby_names = '*'");
        await AskAsync("SELECT pg_reload_conf()");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (await AskAsync("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") is not 1L)
        {
            await Task.Delay(20, limit.Token);
        }

        return standby;
    }

    /// <summary>Runs one of PostgreSQL's own programs to its end.</summary>
    public static async Task RunToolAsync(string program, params string[] arguments)
    {
        using var process = Run(program, arguments);
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"{program} ended with {process.ExitCode}.");
    }

    /// <summary>Starts it, on what it has written.</summary>
    public async Task RestartAsync() => Assert.True(await TryStartAsync(), "postgres ended at once.");

    private async Task<bool> TryStartAsync()
    {
        _process?.Dispose();
        string[] arguments =
        [
            "-D", Data, "-p", $"{Port}", "-h", "127.0.0.1", "-k", _folder.Path, "-c", "max_connections=300", "-c", "shared_buffers=32MB",
            .. _settings.SelectMany(setting => new[] { "-c", setting }),
        ];
        _process = Run("postgres", arguments);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!_process.HasExited)
        {
            if (await AnswersAsync())
            {
                return !_process.HasExited;
            }

            limit.Token.ThrowIfCancellationRequested();
            await Task.Delay(20, limit.Token);
        }

        return false;
    }

    /// <summary>Ends it without warning.</summary>
    public async Task StopAsync()
    {
        if (_process is { HasExited: false })
        {
            Signal("QUIT");
            await _process.WaitForExitAsync();
        }
    }

    public void Signal(string signal, int? processId = null)
    {
        using var kill = Process.Start("kill", [$"-{signal}", (processId ?? Id).ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    public async Task<object?> AskAsync(string sql, string database = "postgres")
    {
        // Each time on a new connection, also where many do so at once and the server is busy.
        await using var source = NpgsqlDataSource.Create($"{ConnectionString};Timeout=60;Pooling=false;Database={database}");
        await using var command = source.CreateCommand(sql);
        return await command.ExecuteScalarAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _process?.Dispose();
        _folder.Dispose();
    }

    private string Data => _folder["data"];

    private static bool IsRoot => Environment.UserName == "root";

    /// <summary>Starts a program as a user that is not root.</summary>
    public static Process RunAsUser(string program, params string[] arguments)
    {
        // The program takes the place of this one, so that its id is the program's.
        var start = IsRoot
            ? new ProcessStartInfo("setpriv", [$"--reuid={User}", $"--regid={User}", "--clear-groups", program, .. arguments])
            : new ProcessStartInfo(program, arguments);
        start.RedirectStandardOutput = start.RedirectStandardError = true;
        var process = Process.Start(start)!;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return process;
    }

    /// <summary>Gives a folder to that user.</summary>
    public static void GiveToUser(string folder)
    {
        if (IsRoot)
        {
            using var chown = Process.Start("chown", ["-R", User, folder]);
            chown.WaitForExit();
        }
    }

    private static Process Run(string program, params string[] arguments) => RunAsUser(Path.Combine(Programs!, program), arguments);

    private async Task InitializeAsync()
    {
        GiveToUser(_folder.Path);
        await RunToolAsync("initdb", "-D", Data, "-U", "sessions", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C");
    }

    private async Task<bool> AnswersAsync()
    {
        try
        {
            return await AskAsync("SELECT 1") is 1;
        }
        catch (NpgsqlException)
        {
            return false;
        }
    }
}
