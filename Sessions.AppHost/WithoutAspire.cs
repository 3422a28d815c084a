using System.Diagnostics;
using System.Net.NetworkInformation;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Hosting;
using Sessions.ServiceDefaults;

// Aspire is not on this machine's NuGet feed: the same API and janitor as two plain child processes, wired by the same environment
// variables. No orchestrator, no dashboard, no supervision: when one ends, so does everything.
Console.WriteLine("Aspire is not on this NuGet feed: starting the API and the janitor without its orchestrator and dashboard.");
try
{
    // Both children would say the same about a faulty file; so it is said here, once.
    var configuration = new HostApplicationBuilder(args).AddYamlConfiguration().Configuration;
    Settings.Read<SessionSettings>(configuration, SessionSettings.Section);
    if (configuration["replicas"] is { } replicas and not "1")
    {
        throw new SettingsException($"replicas: '{replicas}' is not allowed; allowed: 1. Several replicas need Aspire, which shares the port among them.");
    }
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}

const int Port = 8080;
var url = $"http://localhost:{Port}";
if (IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners().Any(listener => listener.Port == Port))
{
    await Console.Error.WriteLineAsync($"Port {Port} is in use. Stop what listens there, or start the API alone on another one: dotnet run --project Sessions.Api -- --port {Port + 1}");
    return 1;
}

using var stop = new CancellationTokenSource();
using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);

using var api = Start("api", "Sessions.Api", ("ASPNETCORE_URLS", url));
using var janitor = Start("janitor", "Sessions.Janitor", ("ASPNETCORE_URLS", "http://127.0.0.1:0"), ("services__api__http__0", url));
await Task.WhenAny(api.WaitForExitAsync(), janitor.WaitForExitAsync(), Task.Delay(Timeout.Infinite, stop.Token));

var failed = (api.HasExited && api.ExitCode != 0) || (janitor.HasExited && janitor.ExitCode != 0);
await Task.WhenAll(EndAsync(janitor), EndAsync(api));
return failed ? 1 : 0;

void Stop(PosixSignalContext context)
{
    context.Cancel = true;
    stop.Cancel();
}

static Process Start(string name, string project, params (string Key, string Value)[] environment)
{
    // Beside this project's own output, in the same configuration and for the same framework.
    var folder = AppContext.BaseDirectory.Replace(
        $"{Path.DirectorySeparatorChar}Sessions.AppHost{Path.DirectorySeparatorChar}", $"{Path.DirectorySeparatorChar}{project}{Path.DirectorySeparatorChar}", StringComparison.Ordinal);
    var start = new ProcessStartInfo("dotnet", [Path.Combine(folder, project + ".dll")]) { RedirectStandardOutput = true, RedirectStandardError = true };
    start.Environment["DOTNET_ENVIRONMENT"] = start.Environment["ASPNETCORE_ENVIRONMENT"] = "Development";
    foreach (var (key, value) in environment)
    {
        start.Environment[key] = value;
    }

    var process = Process.Start(start) ?? throw new InvalidOperationException($"{project} did not start.");
    process.OutputDataReceived += (_, line) => Forward(Console.Out, name, line.Data);
    process.ErrorDataReceived += (_, line) => Forward(Console.Error, name, line.Data);
    process.BeginOutputReadLine();
    process.BeginErrorReadLine();
    return process;
}

static void Forward(TextWriter target, string name, string? line)
{
    if (line is not null)
    {
        target.WriteLine($"[{name}] {line}");
    }
}

static async Task EndAsync(Process process)
{
    // A child gets the terminal's Ctrl+C by itself; a SIGTERM that was sent to this process alone is passed on.
    if (!process.HasExited)
    {
        using var kill = OperatingSystem.IsWindows() ? null : Process.Start("/bin/sh", ["-c", $"kill -TERM {process.Id}"]);
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(40));
        try
        {
            await process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
        }
    }

    // Also waits for the last lines of output.
    await process.WaitForExitAsync();
}
