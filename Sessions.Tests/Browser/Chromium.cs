using Microsoft.Playwright;

[assembly: AssemblyFixture(typeof(Sessions.Tests.Browser.Chromium))]

namespace Sessions.Tests.Browser;

/// <summary>
/// The browser that is installed on this machine, started once. Where there is none the tests are skipped; in CI they fail.
/// </summary>
public sealed class Chromium : IAsyncDisposable
{
    private static readonly string? Program = Environment.GetEnvironmentVariable("SESSIONS_TEST_CHROMIUM")
        ?? Array.Find(["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"], File.Exists);

    private readonly SemaphoreSlim _lock = new(1);
    private IPlaywright? _playwright;
    private IBrowser? _browser;

    /// <summary>Opens the console of a server.</summary>
    /// <param name="address">The server's address.</param>
    /// <param name="options">Size, colors.</param>
    internal async Task<ConsolePage> OpenAsync(Uri address, BrowserNewContextOptions? options = null)
    {
        options ??= new BrowserNewContextOptions();
        options.BaseURL = address.ToString();
        return await ConsolePage.OpenAsync(await (await StartAsync()).NewContextAsync(options));
    }

    public async ValueTask DisposeAsync()
    {
        if (_browser is not null)
        {
            await _browser.DisposeAsync();
        }

        _playwright?.Dispose();
        _lock.Dispose();
    }

    private async Task<IBrowser> StartAsync()
    {
        if (Program is null && Environment.GetEnvironmentVariable("CI") == "true")
        {
            throw new InvalidOperationException("CI needs a Chromium.");
        }

        Assert.SkipWhen(Program is null, "There is no Chromium on this machine (/usr/bin/chromium).");
        await _lock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            _playwright ??= await Playwright.CreateAsync();
            return _browser ??= await _playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions
            {
                // Nothing is downloaded.
                ExecutablePath = Program,
                Timeout = 180_000,
                Args = Environment.UserName == "root" ? ["--no-sandbox"] : [],
            });
        }
        finally
        {
            _lock.Release();
        }
    }
}
