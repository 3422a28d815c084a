using Deque.AxeCore.Playwright;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>Who may see what, and for whom the pages can be read.</summary>
public sealed class AccessTests(Chromium chromium)
{
    // Each page, and what is there once it is.
    private static readonly (string Route, string Shown)[] Pages =
    [
        ("chat", ".recent-list li"), ("chat/s", ".turn .fold"), ("sessions", ".row-item"), ("sessions/s", ".numbered .fold"),
        ("users/ada", ".bars"), ("live", ".tiles strong"),
    ];

    public static MatrixTheoryData<ColorScheme, int> Looks => new([ColorScheme.Light, ColorScheme.Dark], [1280, 390]);

    [Theory]
    [MemberData(nameof(Looks))]
    public async Task Pages_can_be_used_by_everybody(ColorScheme colors, int width)
    {
        await using var server = SessionsServer.Start([]);
        const string Text = "# Tea\n\n| a | b |\n|--|--|\n| 1 | [x](https://example.com) |\n\n```js\nlet x;\n```\n\n> quote\n\n- [x] done";
        await server.PostAsync("/sessions/s/turns", new { query = "Which tea?", response = Text, user_id = "ada" });
        await server.PostAsync("/sessions/s/turns", """
            {"query":"weather?","user_id":"ada","output":[{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{}"}]}
            """);

        // What looks for faults is put into the page as a script.
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!, new()
        {
            ColorScheme = colors,
            ViewportSize = new() { Width = width, Height = 800 },
            BypassCSP = true,
        });
        foreach (var (route, shown) in Pages)
        {
            await console.GoAsync(route);
            await Expect(console.Page.Locator(shown).First).ToBeAttachedAsync();

            var result = await console.Page.RunAxe();

            Assert.Empty(result.Violations.Where(violation => violation.Impact is "serious" or "critical").Select(violation =>
                $"{route}: {violation.Id}: {violation.Help}: {string.Join(" | ", violation.Nodes.Select(node => node.Html))}"));

            // Nothing is wider than the screen.
            Assert.True(await console.Page.EvaluateAsync<bool>("document.documentElement.scrollWidth <= innerWidth"), route);
        }
    }

    [Fact]
    public async Task A_key_is_asked_for_and_opens_what_its_scope_allows()
    {
        string ada = ApiKeys.NewKey(), app = ApiKeys.NewKey(), ops = ApiKeys.NewKey(), all = ApiKeys.NewKey();
        await using var server = SessionsServer.Start([
            ("auth:mode", "api_key"), .. AuthTests.Setting("ada", ada, "user", "ada"), .. AuthTests.Setting("app", app, "service"),
            .. AuthTests.Setting("ops", ops, "admin"), .. AuthTests.Setting("all", all, "read_all"),
        ]);
        await server.PostAsync("/query", new { query = "of ada", thread_id = "a" }, ("X-API-Key", ada));
        await server.PostAsync("/query", new { query = "of grace", thread_id = "g", user_id = "grace" }, ("X-API-Key", app));
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("chat");

        await SignInAsync(page, "no key at all");
        await Expect(page.GetByRole(AriaRole.Alert)).ToContainTextAsync("not known");

        await SignInAsync(page, ada);
        await Expect(page.Locator(".recent-list")).ToContainTextAsync("of ada");
        await Expect(page.Locator(".rail")).Not.ToContainTextAsync("Live");
        await console.GoAsync("sessions");
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(1);
        await console.GoAsync("sessions/g");
        await Expect(page.Locator(".session-view")).ToContainTextAsync("session_not_found");

        // Kept in this tab alone.
        Assert.Equal(ada, await page.EvaluateAsync<string>("sessionStorage.getItem('console.key')"));
        var elsewhere = await page.EvaluateAsync<string>("JSON.stringify(localStorage) + document.cookie");
        Assert.DoesNotContain(ada, elsewhere, StringComparison.Ordinal);
        var other = await page.Context.NewPageAsync();
        await other.GotoAsync("/console/");
        await Expect(other.GetByLabel("API key or token")).ToBeVisibleAsync();
        await other.CloseAsync();

        await page.GetByLabel("Forget the key").ClickAsync();
        await SignInAsync(page, ops);
        await Expect(page.Locator(".tiles")).ToContainTextAsync("Active sessions");
        await Expect(page.Locator(".rail")).Not.ToContainTextAsync("Chat");

        await page.GetByLabel("Forget the key").ClickAsync();
        await SignInAsync(page, all);
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(2);
        await Expect(page.Locator(".rail")).Not.ToContainTextAsync("Chat");

        await page.GetByLabel("Forget the key").ClickAsync();
        await SignInAsync(page, app);
        await console.GoAsync("sessions/g?user=grace");
        await Expect(page.Locator(".session h2")).ToHaveTextAsync("of grace");
        console.IsSound();
    }

    [Fact]
    public async Task The_theme_is_the_systems_or_the_one_that_was_chosen()
    {
        await using var server = SessionsServer.Start([]);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!, new() { ColorScheme = ColorScheme.Dark });
        var page = console.Page;
        await console.GoAsync("chat");
        await Expect(console.Question).ToBeVisibleAsync();
        Assert.True(await IsDarkAsync(page));

        await page.GetByLabel("Theme: as the system has it").ClickAsync();
        Assert.False(await IsDarkAsync(page));
        await page.ReloadAsync();
        await Expect(page.GetByLabel("Theme: light")).ToBeVisibleAsync();
        Assert.False(await IsDarkAsync(page));
        console.IsSound();
    }

    private static async Task SignInAsync(IPage page, string key)
    {
        await page.GetByLabel("API key or token").FillAsync(key);
        await page.GetByRole(AriaRole.Button, new() { Name = "Open" }).ClickAsync();
    }

    private static Task<bool> IsDarkAsync(IPage page) =>
        page.EvaluateAsync<bool>("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 100");
}
