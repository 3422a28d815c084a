using System.Collections.Concurrent;
using Microsoft.Playwright;

namespace Sessions.Tests.Browser;

/// <summary>
/// The console in a tab of its own. Whatever goes wrong in it unseen is kept: errors of scripts, what the Content-Security-Policy has
/// refused, requests to anywhere else, dialogs.
/// </summary>
internal sealed class ConsolePage : IAsyncDisposable
{
    /// <summary>Generous: the machine may be busy.</summary>
    private const float Deadline = 60_000;

    // One that failed is shown until the next one, and is in no history. The page of a session shows its turns too.
    private const string Kept = "chat-page .turn:not(.running, .failed)";

    private readonly ConcurrentQueue<string> _faults = new();

    private ConsolePage(IPage page) => Page = page;

    public IPage Page { get; }

    /// <summary>What went wrong so far.</summary>
    public IReadOnlyCollection<string> Faults => _faults;

    /// <summary>The text field for questions.</summary>
    public ILocator Question => Page.GetByLabel("Your question");

    public static async Task<ConsolePage> OpenAsync(IBrowserContext context)
    {
        context.SetDefaultTimeout(Deadline);
        Assertions.SetDefaultExpectTimeout(Deadline);
        await context.AddInitScriptAsync("document.addEventListener('securitypolicyviolation', e => "
            + "console.error(`CSP: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));");
        var page = new ConsolePage(await context.NewPageAsync());
        page.Watch();
        return page;
    }

    public async Task GoAsync(string route)
    {
        // Another fragment alone is no new page.
        await Page.GotoAsync("about:blank");
        await Page.GotoAsync($"/console/#/{route}");
    }

    /// <summary>Asks, and waits for the end of the answer.</summary>
    public async Task AskAsync(string text)
    {
        var before = await Page.Locator(Kept).CountAsync();
        await SendAsync(text);
        await Assertions.Expect(Page.Locator(".turn.running")).ToHaveCountAsync(0);
        await Assertions.Expect(Page.Locator(Kept)).ToHaveCountAsync(before + 1);
    }

    /// <summary>Asks, and does not wait.</summary>
    public async Task SendAsync(string text)
    {
        await Question.FillAsync(text);
        await Question.PressAsync("Enter");
    }

    /// <summary>Clicks where the page then says this for some seconds: it is looked for from before.</summary>
    public async Task ClickAsync(ILocator button, string told)
    {
        var seen = Assertions.Expect(Page.Locator(".toast", new() { HasText = told })).ToBeVisibleAsync();
        await button.ClickAsync();
        await seen;
    }

    /// <summary>Nothing went wrong unseen.</summary>
    public void IsSound() => Assert.Empty(_faults);

    public async ValueTask DisposeAsync() => await Page.Context.DisposeAsync();

    private void Watch()
    {
        Page.PageError += (_, error) => _faults.Enqueue($"error: {error}");
        Page.Dialog += async (_, dialog) =>
        {
            _faults.Enqueue($"dialog: {dialog.Message}");
            await dialog.DismissAsync();
        };

        // What the server refuses is told by the page; that the browser tells of it too is no fault.
        Page.Console += (_, message) =>
        {
            if (message.Type == "error" && !message.Text.StartsWith("Failed to load resource", StringComparison.Ordinal))
            {
                _faults.Enqueue($"console: {message.Text}");
            }
        };
        Page.Request += (_, request) =>
        {
            var url = new Uri(request.Url);
            if (url.Scheme is not ("data" or "blob" or "about") && url.Host is not ("127.0.0.1" or "localhost"))
            {
                _faults.Enqueue($"request: {url}");
            }
        };
    }
}
