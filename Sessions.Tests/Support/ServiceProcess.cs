using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Sessions.Tests;

/// <summary>
/// One of the programs as a process of its own, as an orchestrator starts it: configured by environment variables alone. Where
/// <c>SESSIONS_TEST_API</c>
/// names an executable, such as one that was published natively, that one is the API.
/// </summary>
internal sealed partial class ServiceProcess : IAsyncDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(2);

    private readonly Process _process;
    private readonly string _config = Path.GetTempFileName();
    private readonly List<string> _lines = [];

    private ServiceProcess(string project, IEnumerable<string> arguments, IEnumerable<(string Key, string Value)> environment)
    {
        var published = project == "Sessions.Api" ? Environment.GetEnvironmentVariable("SESSIONS_TEST_API") : null;
        IEnumerable<string> command = published is null
            ? ["dotnet", Path.Combine(Folder(project), project + ".dll"), .. arguments]
            : [published, .. arguments];
        if (project == "Sessions.AppHost" && OperatingSystem.IsLinux())
        {
            // Who starts the tests in the background may have them ignore Ctrl-C, and that would be inherited.
            command = ["env", "--default-signal=INT", .. command];
        }

        var start = new ProcessStartInfo(command.First(), command.Skip(1))
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach (var inherited in start.Environment.Keys
            .Where(key => key.StartsWith("OTEL_", StringComparison.Ordinal) || key.StartsWith("ASPNETCORE_", StringComparison.Ordinal))
            .ToList())
        {
            start.Environment.Remove(inherited);
        }

        start.Environment["SESSIONS_CONFIG"] = _config;
        start.Environment["ASPNETCORE_URLS"] = "http://127.0.0.1:0";
        foreach (var (key, value) in environment)
        {
            // Settings may be given by their names in the file, agents:model:endpoint.
            start.Environment[key.Contains(':', StringComparison.Ordinal)
                ? key.Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant() : key] = value;
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Add(line.Data);
        _process.ErrorDataReceived += (_, line) => Add(line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>The API, to be run by <c>dotnet</c>.</summary>
    public static string ApiAssembly => Path.Combine(Folder("Sessions.Api"), "Sessions.Api.dll");

    public int Id => _process.Id;

    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_lines)
            {
                return [.. _lines];
            }
        }
    }

    public static ServiceProcess Api(params IEnumerable<(string Key, string Value)> environment) => new("Sessions.Api", [], environment);

    /// <summary>The API's program with a command line.</summary>
    public static ServiceProcess Program(IEnumerable<string> arguments, params IEnumerable<(string Key, string Value)> environment) =>
        new("Sessions.Api", arguments, environment);

    /// <summary>The janitor of the API at <paramref name="api"/>, wired as by the AppHost's <c>WithReference(api)</c>.</summary>
    public static ServiceProcess Janitor(Uri? api, params IEnumerable<(string Key, string Value)> environment) =>
        Janitor([], api, environment);

    /// <summary>The same, with a command line.</summary>
    public static ServiceProcess Janitor(IEnumerable<string> arguments, Uri? api,
        params IEnumerable<(string Key, string Value)> environment) =>
        new("Sessions.Janitor", arguments, api is null ? environment
            : [("services__api__http__0", api.GetLeftPart(UriPartial.Authority)), .. environment]);

    public static ServiceProcess AppHost(IEnumerable<string> arguments, params IEnumerable<(string Key, string Value)> environment) =>
        new("Sessions.AppHost", arguments, environment);

    /// <summary>
    /// The command lines of this process and of all that came from it, also of what has cut itself loose: they have inherited its
    /// environment, in which the name of a file is its own.
    /// </summary>
    public IReadOnlyList<string> Family()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux shows the environment of other processes.");
        return [.. Directory.EnumerateDirectories("/proc").Where(folder => int.TryParse(Path.GetFileName(folder), out _))
            .Where(folder => ReadOf(folder, "environ").Split('\0').Contains($"SESSIONS_CONFIG={_config}"))
            .Select(folder => ReadOf(folder, "cmdline").Replace('\0', ' ')).Where(command => command.Length > 0)];
    }

    /// <summary>What Linux says of a process: nothing, where it has ended while it is looked at, or was not waited for.</summary>
    public static string ReadOf(string folder, string name)
    {
        try
        {
            return File.ReadAllText(Path.Combine(folder, name));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    /// <summary>Where it listens, once it does.</summary>
    public async Task<Uri> AddressAsync()
    {
        Match? match = null;
        await UntilAsync(() => (match = Lines.Select(line => Listening.Match(line)).FirstOrDefault(m => m.Success)) is not null);
        return new Uri(match!.Groups[1].Value);
    }

    public Task SaysAsync(string text) => UntilAsync(() => Lines.Any(line => line.Contains(text, StringComparison.Ordinal)));

    public int Count(string text) => Lines.Count(line => line.Contains(text, StringComparison.Ordinal));

    /// <summary>Asks it to end, as an orchestrator does, or as Ctrl-C (<c>INT</c>).</summary>
    public async Task<int> StopAsync(string signal = "TERM")
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has no signals.");
        Signal(signal);
        return await ExitAsync();
    }

    /// <summary>Stops it in the middle of what it does, or lets it go on.</summary>
    public void Signal(string signal)
    {
        using var kill = Process.Start("/bin/sh", ["-c", $"kill -{signal} {_process.Id}"]);
        kill.WaitForExit();
    }

    /// <summary>Waits for it to end by itself, and for the last of its output.</summary>
    public async Task<int> ExitAsync()
    {
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Deadline, TestContext.Current.CancellationToken);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            await _process.WaitForExitAsync(CancellationToken.None);
        }

        _process.Dispose();
        File.Delete(_config);
    }

    /// <summary>Looks again and again until it is so.</summary>
    public static Task UntilAsync(Func<bool> condition) => UntilAsync(() => Task.FromResult(condition()));

    /// <inheritdoc cref="UntilAsync(Func{bool})"/>
    public static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limited.CancelAfter(Deadline);
        while (!await condition())
        {
            await Task.Delay(20, limited.Token);
        }
    }

    // Beside the tests' own output, in the same configuration.
    private static string Folder(string project) => AppContext.BaseDirectory.Replace(
        $"{Path.DirectorySeparatorChar}Sessions.Tests{Path.DirectorySeparatorChar}",
        $"{Path.DirectorySeparatorChar}{project}{Path.DirectorySeparatorChar}", StringComparison.Ordinal);

    private void Add(string? line)
    {
        if (line is not null)
        {
            lock (_lines)
            {
                _lines.Add(line);
            }
        }
    }

    [GeneratedRegex(@"Now listening on: (\S+)")]
    private static partial Regex Listening { get; }
}
