using Xunit.Runner.InProc.SystemConsole;

namespace Sessions.Tests;

/// <summary>Runs the tests. A tool server does not wait until xUnit has found them all.</summary>
internal static class Program
{
    public static Task<int> Main(string[] args) =>
        args is [TestToolsProgram.Argument] ? TestToolsProgram.RunAsync() : ConsoleRunner.Run(args);
}
