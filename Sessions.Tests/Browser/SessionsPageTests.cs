using System.Text.Json.Nodes;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Sessions.Tests.Browser;

/// <summary>The list of sessions, a session, a user, in a browser.</summary>
public sealed class SessionsPageTests(Chromium chromium)
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Ten_thousand_sessions_are_scrolled_through_without_growing()
    {
        const int Count = 10_000;
        await using var server = SessionsServer.Start([("sessions:max_sessions_per_user", "0")]);
        var log = server.Get<SessionLog>();
        for (var i = 0; i < Count; i++)
        {
            server.Time.Advance(TimeSpan.FromMilliseconds(1));
            await log.CreateAsync(new NewSession($"s{i:00000}", SessionKey.New(), SessionKind.Session, $"user {i % 7}", default,
                SessionOrigin.Api), isOwnId: true, null, Owner.Of($"user {i % 7}"), Cancel);
        }

        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("sessions");
        var rows = console.Page.Locator(".row-item");
        await Expect(rows.First).ToContainTextAsync("s09999");

        // Each step goes to the end of what is known, until there is no more.
        var mostRows = 0;
        while (await rows.Last.GetAttributeAsync("aria-setsize") == "-1" || !await console.Page.GetByText("s00000").IsVisibleAsync())
        {
            await console.Page.Locator(".rows").EvaluateAsync("box => { box.scrollTop = box.scrollHeight; }");
            mostRows = Math.Max(mostRows, await rows.CountAsync());
            Cancel.ThrowIfCancellationRequested();
        }

        Assert.InRange(mostRows, 5, 60);
        Assert.InRange(await console.Page.EvaluateAsync<int>("document.querySelectorAll('*').length"), 50, 1500);

        // Back at the start: what was let go of is there again.
        await console.Page.Locator(".rows").EvaluateAsync("box => { box.scrollTop = 0; }");
        await Expect(console.Page.GetByText("s09999")).ToBeVisibleAsync();
        console.IsSound();
    }

    [Fact]
    public async Task The_list_is_used_by_keys_alone_and_narrowed()
    {
        await using var server = SessionsServer.Start([]);
        foreach (var (id, user) in (IEnumerable<(string, string)>)[("one", "ada"), ("two", "ada"), ("three", "grace")])
        {
            server.Time.Advance(TimeSpan.FromSeconds(1));
            await server.QueryAsync($"question {id}", id, user);
        }

        await server.SendAsync(HttpMethod.Patch, "/sessions/one", """{"metadata":{"topic":"tea"}}""");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("sessions");
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(3);

        await page.GetByRole(AriaRole.Listbox, new() { Name = "Sessions" }).FocusAsync();
        await page.Keyboard.PressAsync("ArrowDown");
        await page.Keyboard.PressAsync("ArrowDown");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator(".session h2")).ToHaveTextAsync("question two");
        await Expect(page.Locator(".row-item[aria-selected=true]")).ToContainTextAsync("question two");

        await page.GetByText("Filter", new() { Exact = true }).ClickAsync();
        await page.GetByLabel("User", new() { Exact = true }).FillAsync("grace");
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(1);
        await page.GetByLabel("User", new() { Exact = true }).FillAsync("");
        await page.GetByLabel("Metadata", new() { Exact = true }).FillAsync("topic=tea");
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(1);
        await Expect(page.Locator(".row-item")).ToContainTextAsync("question one");
        await page.GetByRole(AriaRole.Button, new() { Name = "Clear" }).ClickAsync();
        await Expect(page.Locator(".row-item")).ToHaveCountAsync(3);
        console.IsSound();
    }

    [Fact]
    public async Task A_session_is_forked_changed_exported_and_deleted()
    {
        await using var server = SessionsServer.Start([("sessions:max_sessions_per_user", "0")]);
        await server.QueryAsync("first", "s", "ada");
        await server.QueryAsync("second", "s", "ada");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("sessions/s");

        // What the model was given.
        await page.GetByLabel("What the model was given").First.ClickAsync();
        await Expect(page.Locator(".context .facts")).ToContainTextAsync("1 turn");
        await page.GetByRole(AriaRole.Button, new() { Name = "Close" }).ClickAsync();

        // Changed by somebody else meanwhile: nothing is saved.
        var metadata = page.GetByLabel("Metadata as JSON");
        await metadata.FillAsync("""{"topic":"tea"}""");
        await server.SendAsync(HttpMethod.Patch, "/sessions/s", """{"metadata":{"mood":"good"}}""");
        await page.GetByRole(AriaRole.Button, new() { Name = "Save" }).ClickAsync();
        await Expect(page.GetByRole(AriaRole.Alert)).ToContainTextAsync("changed meanwhile");
        await console.GoAsync("sessions/s");
        await metadata.FillAsync("""{"topic":"tea"}""");
        await console.ClickAsync(page.GetByRole(AriaRole.Button, new() { Name = "Save" }), "Saved.");
        var stored = (await server.GetAsync("/sessions/s")).Json["metadata"]!;
        Assert.Equal("tea", (string?)stored["topic"]);
        Assert.Null(stored["mood"]);

        var download = await page.RunAndWaitForDownloadAsync(() => page.GetByRole(AriaRole.Button, new() { Name = "Export" }).ClickAsync());
        var lines = await File.ReadAllLinesAsync((await download.PathAsync())!, Cancel);
        Assert.Equal("s", (string?)JsonNode.Parse(lines[0])!["session"]!["session_id"]);
        Assert.Equal(["first", "second"], lines.Skip(1).Select(line => (string?)JsonNode.Parse(line)!["turn"]!["query"]));

        await page.GetByRole(AriaRole.Button, new() { Name = "Fork", Exact = true }).ClickAsync();
        await Expect(page.Locator(".session")).ToContainTextAsync("by fork");

        await console.GoAsync("sessions/s");
        await page.GetByRole(AriaRole.Button, new() { Name = "Delete" }).ClickAsync();
        var dialog = page.GetByRole(AriaRole.Dialog);
        await Expect(dialog).ToContainTextAsync("2 turns");
        await dialog.GetByRole(AriaRole.Button, new() { Name = "Keep" }).ClickAsync();
        Assert.Equal(200, (await server.GetAsync("/sessions/s")).Status);
        await page.GetByRole(AriaRole.Button, new() { Name = "Delete" }).ClickAsync();
        await console.ClickAsync(dialog.GetByRole(AriaRole.Button, new() { Name = "Delete" }), "The session is gone.");
        Assert.Equal(404, (await server.GetAsync("/sessions/s")).Status);
        console.IsSound();
    }

    [Fact]
    public async Task A_user_is_counted_and_erased()
    {
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("hello", "s", "ada");
        await server.QueryAsync("hello", "t", "ada");
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        var page = console.Page;
        await console.GoAsync("users/ada");
        await Expect(page.Locator(".now")).ToContainTextAsync("2 turns in 2 sessions");

        await page.GetByRole(AriaRole.Button, new() { Name = "Erase everything" }).ClickAsync();
        var erase = page.GetByRole(AriaRole.Dialog).GetByRole(AriaRole.Button, new() { Name = "Erase" });
        await Expect(page.GetByRole(AriaRole.Dialog)).ToContainTextAsync("2 sessions");
        await Expect(erase).ToBeDisabledAsync();
        await page.GetByLabel("Type ada to go on").FillAsync("ada");
        await console.ClickAsync(erase, "Gone: 2 sessions, 2 turns.");

        Assert.Empty((await server.GetAsync("/users/ada/sessions")).Json["sessions"]!.AsArray());
        console.IsSound();
    }

    [Fact]
    public async Task The_server_is_watched_live()
    {
        await using var server = SessionsServer.Start([]);
        await using var console = await chromium.OpenAsync(server.Client.BaseAddress!);
        await console.GoAsync("live");
        await Expect(console.Page.Locator(".tiles")).ToContainTextAsync("Active sessions");

        await server.QueryAsync("hello", "s", "ada");

        await Expect(console.Page.Locator(".tiles div").Nth(2).Locator("strong")).ToHaveTextAsync("1");
        await Expect(console.Page.Locator(".panel", new() { HasText = "Agents" }).First).ToContainTextAsync("advanced");
        await Expect(console.Page.Locator(".checks")).ToContainTextAsync("store");
        await Expect(console.Page.Locator(".charts polyline").First).ToBeVisibleAsync();
        console.IsSound();
    }
}
