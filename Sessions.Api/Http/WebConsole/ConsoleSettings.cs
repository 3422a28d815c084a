namespace Sessions.Api.Http.WebConsole;

/// <summary>The <c>console:</c> section of <c>config.yaml</c>.</summary>
internal sealed class ConsoleSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "console";

    /// <summary>Whether the console is served. Where nothing is said: on a developer's machine only.</summary>
    public bool? Enabled { get; set; }

    /// <summary>Whether it is on in this environment: <c>dotnet run</c> and the AppHost run in <c>Development</c>, what is published does
    /// not.</summary>
    public bool IsOnIn(IHostEnvironment environment) => Enabled ?? environment.IsDevelopment();
}
